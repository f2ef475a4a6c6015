// Cases: one tensor shape each, with everything that is timed on it.
//
// Thread-safety: none; one thread calls it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/kernels/report.h"
#include "kernels/kernels.h"

namespace syncnorm::bench {

struct BatchNormCase {
  std::vector<int64_t> shape;  // (N, C, H, W)
  DType dtype = DType::kF32;
  bool channels_last = false;

  std::string Title() const;
};

struct PowerNormCase {
  int64_t tokens = 0;
  int64_t channels = 0;
  int64_t groups = 1;
  DType dtype = DType::kF32;

  std::string Title() const;
};

// The variants of a case, over memory that they share and keep alive.  Aborts
// the program if the SIMD backend's results differ from the scalar backend's.
std::vector<Variant> VariantsOf(const BatchNormCase& c);
std::vector<Variant> VariantsOf(const PowerNormCase& c);

}  // namespace syncnorm::bench
