// Arithmetic per channel that the norms share, in double.
//
// Thread-safety: pure functions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace syncnorm::norms {

// 1 / sqrt(power + eps); 0 where that is 1 / 0, so that a channel without any
// variance gives y = bias, never NaN.
inline double InverseRoot(double power, double eps) {
  const double square = power + eps;
  return square == 0 ? 0 : 1 / std::sqrt(square);
}

inline std::vector<double> InverseRoots(absl::Span<const double> power, double eps) {
  std::vector<double> roots(power.size());
  for (size_t c = 0; c < power.size(); ++c) roots[c] = InverseRoot(power[c], eps);
  return roots;
}

// sums / count; zeros under a count of 0.
inline std::vector<double> Means(absl::Span<const double> sums, uint64_t count) {
  const double n = static_cast<double>(std::max<uint64_t>(count, 1));
  std::vector<double> means(sums.size());
  for (size_t c = 0; c < sums.size(); ++c) means[c] = sums[c] / n;
  return means;
}

// What an absent weight (1) or bias (0) stands for.
inline std::vector<double> ValuesOr(const std::vector<double>& values, size_t size, double absent) {
  return values.empty() ? std::vector<double>(size, absent) : values;
}

}  // namespace syncnorm::norms
