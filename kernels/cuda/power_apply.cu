// y = x * r * scale + shift, r of the token and group.
#include "kernels/cuda/map.cuh"

namespace syncnorm::kernels::cuda {
namespace {

struct ApplyOp {
  static constexpr int kInputs = 1;
  static constexpr bool kWalksGroups = true;
  template <class W>
  struct Params {
    W scale, shift;
  };

  template <class W>
  __device__ Params<W> At(int64_t c) const {
    return {static_cast<W>(scale[c]), static_cast<W>(shift[c])};
  }
  template <class W>
  __device__ W Map(const Params<W>& p, W x, W, W r) const {
    return fma(x * r, p.scale, p.shift);
  }

  const double* scale;
  const double* shift;
};

}  // namespace

cudaError_t PowerApply(const ConstSlab& x, const void* r, int64_t groups, const double* scale,
                       const double* shift, const Slab& y, const Launch& on) {
  const Grid grid{x.grid.outer, groups, x.grid.channels / groups};
  return WithElement(x.dtype, [&](auto element) {
    return LaunchMap<decltype(element)>(grid, x.data, nullptr, nullptr, r, y.data,
                                        ApplyOp{scale, shift}, on);
  });
}

}  // namespace syncnorm::kernels::cuda
