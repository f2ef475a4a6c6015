// PowerNorm's sums over tokens: of xs^2 (forward), and of dy, dy * xs and xs^2
// (backward), with xs = x * r.  Blocks of tokens are summed in the compute type
// (columns-inl.h), and added up in double.
#include <cstdint>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/power_sums.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/columns-inl.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {
namespace {

struct ForwardTerms {
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE void Add(D, size_t, V x, V, V r, V& sum_xs2, V&, V&) const {
    const V xs = hn::Mul(x, r);
    sum_xs2 = hn::MulAdd(xs, xs, sum_xs2);
  }
};

struct BackwardTerms {
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE void Add(D, size_t, V x, V dy, V r, V& sum_dy, V& sum_dy_xs, V& sum_xs2) const {
    const V xs = hn::Mul(x, r);
    sum_dy = hn::Add(sum_dy, dy);
    sum_dy_xs = hn::MulAdd(dy, xs, sum_dy_xs);
    sum_xs2 = hn::MulAdd(xs, xs, sum_xs2);
  }
};

// totals[s][c] = op's terms over the valid tokens; returns their number.
template <size_t kSums, size_t kInputs, class T, class Op>
uint64_t SumTokens(const Inputs<kInputs, T>& in, int64_t tokens, const GroupFactors& factors,
                   const uint8_t* valid, const Op& op, double* const (&totals)[kSums]) {
  for (double* total : totals) std::fill_n(total, in.columns, 0.0);
  ForEachTile(in.columns, [&](Tile tile) HWY_ATTR {
    TileRow<Wide<T>> sums[kSums];
    for (RowBlocks block(tokens, valid); block.Next();) {
      SumTile<kSums>(in, tile, block.rows(), block.count(), factors, op, sums);
      for (size_t s = 0; s < kSums; ++s) {
        for (int64_t j = 0; j < tile.width; ++j) totals[s][tile.begin + j] += sums[s].values[j];
      }
    }
  });
  uint64_t count = 0;
  for (int64_t t = 0; t < tokens; ++t) count += valid == nullptr || valid[t] != 0;
  return count;
}

}  // namespace

void PowerSums(const ConstSlab& x, const double* r, int64_t groups, const uint8_t* valid,
               uint64_t* count, double* sum_x2) {
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    const Inputs<1, T> in{static_cast<const T*>(x.data), nullptr, x.grid.channels};
    *count = SumTokens<1>(in, x.grid.outer, GroupFactors(r, groups, x.grid.channels), valid,
                          ForwardTerms(), {sum_x2});
  });
}

void PowerGradSums(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                   const uint8_t* valid, uint64_t* count, double* sum_dy, double* sum_dy_xs,
                   double* sum_xs2) {
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    const Inputs<2, T> in{static_cast<const T*>(x.data), static_cast<const T*>(dy.data),
                          x.grid.channels};
    *count = SumTokens<3>(in, x.grid.outer, GroupFactors(r, groups, x.grid.channels), valid,
                          BackwardTerms(), {sum_dy, sum_dy_xs, sum_xs2});
  });
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncnorm::kernels::cpu {

HWY_EXPORT(PowerSums);
HWY_EXPORT(PowerGradSums);

void PowerSums(const ConstSlab& x, const double* r, int64_t groups, const uint8_t* valid,
               uint64_t* count, double* sum_x2) {
  HWY_DYNAMIC_DISPATCH(PowerSums)(x, r, groups, valid, count, sum_x2);
}

void PowerGradSums(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                   const uint8_t* valid, uint64_t* count, double* sum_dy, double* sum_dy_xs,
                   double* sum_xs2) {
  HWY_DYNAMIC_DISPATCH(PowerGradSums)
  (x, r, groups, dy, valid, count, sum_dy, sum_dy_xs, sum_xs2);
}

}  // namespace syncnorm::kernels::cpu
#endif
