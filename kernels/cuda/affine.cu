// y = (x - center) * scale + shift, computed as (x - hi) * scale + (shift - lo * scale):
// x - hi is exact near the center, and the rest is rounded once per channel.
#include "kernels/cuda/map.cuh"

namespace syncnorm::kernels::cuda {
namespace {

struct AffineOp {
  static constexpr int kInputs = 1;
  static constexpr bool kWalksGroups = false;
  template <class W>
  struct Params {
    W hi, scale, shift;
  };

  template <class W>
  __device__ Params<W> At(int64_t c) const {
    const Split<W> split(center[c]);
    return {split.hi, static_cast<W>(scale[c]), static_cast<W>(shift[c] - split.lo * scale[c])};
  }
  template <class W>
  __device__ W Map(const Params<W>& p, W x, W, W) const {
    return fma(x - p.hi, p.scale, p.shift);
  }

  const double* center;
  const double* scale;
  const double* shift;
};

}  // namespace

cudaError_t Affine(const ConstSlab& x, const uint8_t* valid, const double* center,
                   const double* scale, const double* shift, const Slab& y, const Launch& on) {
  return WithElement(x.dtype, [&](auto element) {
    return LaunchMap<decltype(element)>(x.grid, x.data, nullptr, valid, nullptr, y.data,
                                        AffineOp{center, scale, shift}, on);
  });
}

}  // namespace syncnorm::kernels::cuda
