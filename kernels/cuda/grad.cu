// dx = a * dy + b * (x - center) + d, computed as a * dy + (b * (x - hi) + (d - b * lo)):
// x - hi is exact near the center, and the rest is rounded once per channel.
#include "kernels/cuda/map.cuh"

namespace syncnorm::kernels::cuda {
namespace {

struct GradOp {
  static constexpr int kInputs = 2;
  static constexpr bool kWalksGroups = false;
  template <class W>
  struct Params {
    W hi, a, b, rest;
  };

  template <class W>
  __device__ Params<W> At(int64_t c) const {
    const Split<W> split(center[c]);
    return {split.hi, static_cast<W>(a[c]), static_cast<W>(b[c]),
            static_cast<W>(d[c] - b[c] * split.lo)};
  }
  template <class W>
  __device__ W Map(const Params<W>& p, W x, W dy, W) const {
    return fma(p.a, dy, fma(p.b, x - p.hi, p.rest));
  }

  const double* center;
  const double* a;
  const double* b;
  const double* d;
};

}  // namespace

cudaError_t Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid,
                 const double* center, const double* a, const double* b, const double* d,
                 const Slab& dx, const Launch& on) {
  return WithElement(x.dtype, [&](auto element) {
    return LaunchMap<decltype(element)>(x.grid, x.data, dy.data, valid, nullptr, dx.data,
                                        GradOp{center, a, b, d}, on);
  });
}

}  // namespace syncnorm::kernels::cuda
