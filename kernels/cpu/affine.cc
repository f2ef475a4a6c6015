// y = (x - center) * scale + shift, computed as (x - hi) * scale + (shift - lo * scale):
// x - hi is exact near the center, and the rest is rounded once per channel.
#include <cstdint>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/affine.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/columns-inl.h"
#include "kernels/cpu/runs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {
namespace {

struct AffineParams {
  const double* center;
  const double* scale;
  const double* shift;
};

// P is a Same or a PerColumn.
template <class P>
struct AffineOp {
  P hi, scale, shift;

  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V Map(D d, size_t j, V x, V) const {
    return hn::MulAdd(hn::Sub(x, hi(d, j)), scale(d, j), shift(d, j));
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V Map(D d, size_t j, V x, V, V) const {
    return Map(d, j, x, x);
  }
};

// One channel's parameters, narrowed.
template <class W>
AffineOp<Same<W>> Narrow(const AffineParams& p, int64_t c) {
  const Split<W> center(p.center[c]);
  return {{center.hi},
          {static_cast<W>(p.scale[c])},
          {static_cast<W>(p.shift[c] - center.lo * p.scale[c])}};
}

template <class T>
void AffineRuns(const T* x, const Grid& grid, const uint8_t* valid, const AffineParams& params,
                T* y) {
  const size_t n = static_cast<size_t>(grid.inner);
  for (int64_t o = 0; o < grid.outer; ++o) {
    for (int64_t c = 0; c < grid.channels; ++c) {
      const int64_t at = (o * grid.channels + c) * grid.inner;
      const AffineOp<Same<Wide<T>>> op = Narrow<Wide<T>>(params, c);
      if (valid == nullptr) {
        MapRun<1, false>(x + at, x + at, valid, n, op, y + at);
      } else {
        MapRun<1, true>(x + at, x + at, valid + o * grid.inner, n, op, y + at);
      }
    }
  }
}

template <class T>
void AffineTable(const T* x, const Grid& grid, const Table& table, const uint8_t* valid,
                 const AffineParams& params, T* y) {
  if (table.rows == 0) return;
  using W = Wide<T>;
  ForEachTile(table.columns, [&](Tile tile) HWY_ATTR {
    TileRow<W> hi, scale, shift;
    ChannelWalk walk(grid, tile.begin);
    for (int64_t j = 0; j < tile.width; ++j) {
      const AffineOp<Same<W>> op = Narrow<W>(params, walk.Next());
      hi.values[j] = op.hi.value;
      scale.values[j] = op.scale.value;
      shift.values[j] = op.shift.value;
    }
    MapTile(Inputs<1, T>{x + table.offset, nullptr, table.columns}, tile, table.rows, valid,
            NoFactors(), AffineOp<PerColumn<W>>{{hi.values}, {scale.values}, {shift.values}},
            y + table.offset);
  });
}

}  // namespace

void Affine(const ConstSlab& x, const uint8_t* valid, const double* center, const double* scale,
            const double* shift, const Slab& y) {
  const AffineParams params{center, scale, shift};
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    const T* in = static_cast<const T*>(x.data);
    T* out = static_cast<T*>(y.data);
    if (!WalkColumns(x.grid, valid)) return AffineRuns(in, x.grid, valid, params, out);
    const Tables tables = TablesOf(x.grid, valid);
    AffineTable(in, x.grid, tables.main, valid, params, out);
    AffineTable(in, x.grid, tables.rest, nullptr, params, out);
  });
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncnorm::kernels::cpu {

HWY_EXPORT(Affine);

void Affine(const ConstSlab& x, const uint8_t* valid, const double* center, const double* scale,
            const double* shift, const Slab& y) {
  HWY_DYNAMIC_DISPATCH(Affine)(x, valid, center, scale, shift, y);
}

}  // namespace syncnorm::kernels::cpu
#endif
