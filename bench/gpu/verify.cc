#include "bench/gpu/verify.h"

#include <cmath>
#include <cstdio>

#include "kernels/element.h"

namespace syncnorm::bench::gpu {
namespace {

std::string Told(const std::string& what, size_t at, double got, double expected) {
  char text[200];
  std::snprintf(text, sizeof text, "[%zu] is %.9g, and %.9g by the scalar backend", at, got,
                expected);
  return what + text;
}

bool Near(double got, double expected, double bound) {
  return std::abs(got - expected) <= bound;  // false where one is NaN
}

}  // namespace

std::string Difference(const std::string& what, const std::vector<double>& got,
                       const std::vector<double>& expected, double bound) {
  if (got.size() != expected.size()) return what + " has another size than expected";
  for (size_t i = 0; i < got.size(); ++i) {
    if (!Near(got[i], expected[i], bound)) return Told(what, i, got[i], expected[i]);
  }
  return "";
}

std::string Difference(const std::string& what, DType dtype, const std::vector<uint8_t>& got,
                       const std::vector<uint8_t>& expected) {
  if (got.size() != expected.size()) return what + " has another size than expected";
  // A unit in the last place, and for f32 and f64 what cancellation in the map leaves.
  const double ulp = dtype == DType::kF64    ? 1e-13
                     : dtype == DType::kF32  ? 1e-5
                     : dtype == DType::kBF16 ? 0x1p-7
                                             : 0x1p-10;
  for (size_t i = 0; i < got.size() / SizeOf(dtype); ++i) {
    const double g = kernels::ReadElement(dtype, got.data(), static_cast<int64_t>(i));
    const double e = kernels::ReadElement(dtype, expected.data(), static_cast<int64_t>(i));
    if (!Near(g, e, ulp * (std::abs(e) + 1))) return Told(what, i, g, e);
  }
  return "";
}

double SumBound(DType dtype, int64_t positions) {
  return MeanBound(dtype) * static_cast<double>(positions);
}

double MeanBound(DType dtype) { return dtype == DType::kF64 ? 1e-12 : 4e-6; }

}  // namespace syncnorm::bench::gpu
