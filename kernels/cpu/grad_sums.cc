// sum dy and sum dy * (x - center), the latter as
// sum dy * (x - hi) - lo * sum dy.  Blocks are summed in the compute type
// (runs-inl.h, columns-inl.h), and added up in double.
#include <cstdint>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/grad_sums.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/columns-inl.h"
#include "kernels/cpu/runs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {
namespace {

// P is a Same or a PerColumn.
template <class P>
struct GradTerms {
  P hi;

  template <class D>
  HWY_INLINE hn::Vec<D> NeutralX(D d, size_t j) const {
    return hi(d, j);
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE void Add(D d, size_t j, V x, V dy, V& sum_dy, V& sum_dy_xc) const {
    sum_dy = hn::Add(sum_dy, dy);
    sum_dy_xc = hn::MulAdd(dy, hn::Sub(x, hi(d, j)), sum_dy_xc);
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE void Add(D d, size_t j, V x, V dy, V, V& sum_dy, V& sum_dy_xc, V&) const {
    Add(d, j, x, dy, sum_dy, sum_dy_xc);
  }
};

struct Results {
  const double* center;
  double* sum_dy;
  double* sum_dy_xc;
};

template <class T>
void SumRuns(const T* x, const T* dy, const Grid& grid, const uint8_t* valid,
             const Results& results) {
  const int64_t block = BlockElements(hn::ScalableTag<Wide<T>>());
  for (int64_t o = 0; o < grid.outer; ++o) {
    for (int64_t c = 0; c < grid.channels; ++c) {
      const Split<Wide<T>> center(results.center[c]);
      const GradTerms<Same<Wide<T>>> op{{center.hi}};
      for (int64_t i = 0; i < grid.inner; i += block) {
        const int64_t at = (o * grid.channels + c) * grid.inner + i;
        const size_t n = static_cast<size_t>(std::min(block, grid.inner - i));
        double sums[2];
        if (valid == nullptr) {
          SumRun<2, false>(x + at, dy + at, valid, n, op, sums);
        } else {
          SumRun<2, true>(x + at, dy + at, valid + o * grid.inner + i, n, op, sums);
        }
        results.sum_dy[c] += sums[0];
        results.sum_dy_xc[c] += sums[1] - center.lo * sums[0];
      }
    }
  }
}

template <class T>
void SumTable(const T* x, const T* dy, const Grid& grid, const Table& table, const uint8_t* valid,
              const Results& results) {
  if (table.rows == 0) return;
  using W = Wide<T>;
  const Inputs<2, T> in{x + table.offset, dy + table.offset, table.columns};
  ForEachTile(table.columns, [&](Tile tile) HWY_ATTR {
    TileRow<W> hi, sums[2];
    ChannelWalk walk(grid, tile.begin);
    for (int64_t j = 0; j < tile.width; ++j) {
      hi.values[j] = Split<W>(results.center[walk.Next()]).hi;
    }
    for (RowBlocks block(table.rows, valid); block.Next();) {
      SumTile<2>(in, tile, block.rows(), block.count(), NoFactors(),
                 GradTerms<PerColumn<W>>{{hi.values}}, sums);
      walk = ChannelWalk(grid, tile.begin);
      for (int64_t j = 0; j < tile.width; ++j) {
        const int64_t c = walk.Next();
        const double lo = results.center[c] - hi.values[j];
        results.sum_dy[c] += sums[0].values[j];
        results.sum_dy_xc[c] += sums[1].values[j] - lo * sums[0].values[j];
      }
    }
  });
}

}  // namespace

void GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
              double* sum_dy, double* sum_dy_xc) {
  std::fill_n(sum_dy, x.grid.channels, 0.0);
  std::fill_n(sum_dy_xc, x.grid.channels, 0.0);
  const Results results{center, sum_dy, sum_dy_xc};
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    const T* in_x = static_cast<const T*>(x.data);
    const T* in_dy = static_cast<const T*>(dy.data);
    if (!WalkColumns(x.grid, valid)) return SumRuns(in_x, in_dy, x.grid, valid, results);
    const Tables tables = TablesOf(x.grid, valid);
    SumTable(in_x, in_dy, x.grid, tables.main, valid, results);
    SumTable(in_x, in_dy, x.grid, tables.rest, nullptr, results);
  });
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncnorm::kernels::cpu {

HWY_EXPORT(GradSums);

void GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
              double* sum_dy, double* sum_dy_xc) {
  HWY_DYNAMIC_DISPATCH(GradSums)(x, dy, valid, center, sum_dy, sum_dy_xc);
}

}  // namespace syncnorm::kernels::cpu
#endif
