// The protocol of the measuring programs: one JSON object a line.  The program greets, and then
// answers requests, one at a time, until its input ends.
//
//   greeting   {"device": ..., "simulated": ..., ...}, or {"no_device": CUDA's words} and exit
//   status
//              kNoDevice
//   answer     {"results": [{"variant": ..., "passes": ..., "times_us": [...]}]}
//              {"wrong": ...}     a result differs from the scalar backend's: there are no times
//              {"skipped": ...}   the case cannot be run here, and why
//              {"error": ...}     CUDA failed, or the request is none
//
// Thread-safety: none; one thread calls it.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "kernels/kernels.h"
#include "nlohmann/json.hpp"

namespace syncnorm::bench::gpu {

inline constexpr int kNoDevice = 77;

// A tensor and what is done with it.
struct Case {
  bool power_norm = false;
  DType dtype = DType::kF32;
  bool channels_last = false;
  int64_t n = 0, channels = 0, height = 0, width = 0;
  int64_t groups = 1;  // PowerNorm's
  int repetitions = 1;

  kernels::Grid grid() const;
  int64_t elements() const { return n * channels * height * width; }
};

// The case, or what is wrong with the line.
std::variant<Case, std::string> ParseCase(const std::string& line);

}  // namespace syncnorm::bench::gpu
