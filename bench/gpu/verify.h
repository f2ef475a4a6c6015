// Holding a device's results against the scalar backend's.
//
// Difference() returns "" where all is near enough, and otherwise what differs: the first such
// place, with both values.  NaN is near nothing.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace syncnorm::bench::gpu {

// Per-channel numbers: |got - expected| <= bound at every channel.
std::string Difference(const std::string& what, const std::vector<double>& got,
                       const std::vector<double>& expected, double bound);

// Tensors of one dtype: within one rounding of the dtype, and the arithmetic between.
std::string Difference(const std::string& what, DType dtype, const std::vector<uint8_t>& got,
                       const std::vector<uint8_t>& expected);

// Bounds of sums over `positions` terms that are about 1, and of a mean of such.  Rounding, at
// most that of float in short runs, is 4e-6 of each (docs/numerics.md allows 2e-6 of the largest
// value, which is some 4 times the typical one).
double SumBound(DType dtype, int64_t positions);
double MeanBound(DType dtype);

}  // namespace syncnorm::bench::gpu
