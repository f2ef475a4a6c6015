// dx = a * dy + b * (x - center) + d, computed as
// a * dy + (b * (x - hi) + (d - b * lo)): x - hi is exact near the center, and
// the rest is rounded once per channel.
#include <cstdint>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/grad.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/columns-inl.h"
#include "kernels/cpu/runs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {
namespace {

struct GradParams {
  const double* center;
  const double* a;
  const double* b;
  const double* d;
};

// P is a Same or a PerColumn.
template <class P>
struct GradOp {
  P hi, a, b, rest;

  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V Map(D d, size_t j, V x, V dy) const {
    const V deviation = hn::Sub(x, hi(d, j));
    return hn::MulAdd(a(d, j), dy, hn::MulAdd(b(d, j), deviation, rest(d, j)));
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V Map(D d, size_t j, V x, V dy, V) const {
    return Map(d, j, x, dy);
  }
};

// One channel's parameters, narrowed.
template <class W>
GradOp<Same<W>> Narrow(const GradParams& p, int64_t c) {
  const Split<W> center(p.center[c]);
  return {{center.hi},
          {static_cast<W>(p.a[c])},
          {static_cast<W>(p.b[c])},
          {static_cast<W>(p.d[c] - p.b[c] * center.lo)}};
}

template <class T>
void GradRuns(const T* x, const T* dy, const Grid& grid, const uint8_t* valid,
              const GradParams& params, T* dx) {
  const size_t n = static_cast<size_t>(grid.inner);
  for (int64_t o = 0; o < grid.outer; ++o) {
    for (int64_t c = 0; c < grid.channels; ++c) {
      const int64_t at = (o * grid.channels + c) * grid.inner;
      const GradOp<Same<Wide<T>>> op = Narrow<Wide<T>>(params, c);
      if (valid == nullptr) {
        MapRun<2, false>(x + at, dy + at, valid, n, op, dx + at);
      } else {
        MapRun<2, true>(x + at, dy + at, valid + o * grid.inner, n, op, dx + at);
      }
    }
  }
}

template <class T>
void GradTable(const T* x, const T* dy, const Grid& grid, const Table& table, const uint8_t* valid,
               const GradParams& params, T* dx) {
  if (table.rows == 0) return;
  using W = Wide<T>;
  ForEachTile(table.columns, [&](Tile tile) HWY_ATTR {
    TileRow<W> hi, a, b, rest;
    ChannelWalk walk(grid, tile.begin);
    for (int64_t j = 0; j < tile.width; ++j) {
      const GradOp<Same<W>> op = Narrow<W>(params, walk.Next());
      hi.values[j] = op.hi.value;
      a.values[j] = op.a.value;
      b.values[j] = op.b.value;
      rest.values[j] = op.rest.value;
    }
    MapTile(Inputs<2, T>{x + table.offset, dy + table.offset, table.columns}, tile, table.rows,
            valid, NoFactors(),
            GradOp<PerColumn<W>>{{hi.values}, {a.values}, {b.values}, {rest.values}},
            dx + table.offset);
  });
}

}  // namespace

void Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
          const double* a, const double* b, const double* d, const Slab& dx) {
  const GradParams params{center, a, b, d};
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    const T* in_x = static_cast<const T*>(x.data);
    const T* in_dy = static_cast<const T*>(dy.data);
    T* out = static_cast<T*>(dx.data);
    if (!WalkColumns(x.grid, valid)) return GradRuns(in_x, in_dy, x.grid, valid, params, out);
    const Tables tables = TablesOf(x.grid, valid);
    GradTable(in_x, in_dy, x.grid, tables.main, valid, params, out);
    GradTable(in_x, in_dy, x.grid, tables.rest, nullptr, params, out);
  });
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncnorm::kernels::cpu {

HWY_EXPORT(Grad);

void Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
          const double* a, const double* b, const double* d, const Slab& dx) {
  HWY_DYNAMIC_DISPATCH(Grad)(x, dy, valid, center, a, b, d, dx);
}

}  // namespace syncnorm::kernels::cpu
#endif
