// What a layer is given, and what its first step must give, by the scalar backend on the whole
// batch: the ranks' tensors one behind the other.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/gpu/protocol.h"

namespace syncnorm::bench::gpu {

// A rank's x and dy.  Ranks differ in mean and deviation, so that who forgets one is found out.
std::vector<uint8_t> InputOf(const Case& c, int rank);
std::vector<uint8_t> GradientOf(const Case& c, int rank);

// Of every rank: y of the first forward (PowerNorm: of the second, which the statistic of the first
// has moved), and dx of the first backward.
struct Outputs {
  std::vector<uint8_t> y, dx;
};

// "" if `got` is right for ranks that share their statistics, or what is wrong.
std::string CheckOutputs(const Case& c, const std::vector<Outputs>& got);

}  // namespace syncnorm::bench::gpu
