// PowerNorm token by token: the group scaling's factors, y from x, and dx
// through the group scaling.
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/power_maps.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/columns-inl.h"
#include "kernels/cpu/runs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {
namespace {

// ---- Forward -------------------------------------------------------------------

// Second sum: of squares.
struct Squares {
  template <class D>
  HWY_INLINE hn::Vec<D> NeutralX(D d, size_t) const {
    return hn::Zero(d);
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE void Add(D, size_t, V x, V, V&, V& sum) const {
    sum = hn::MulAdd(x, x, sum);
  }
};

template <class W>
struct ApplyOp {
  PerColumn<W> scale, shift;

  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V Map(D d, size_t j, V x, V, V r) const {
    return hn::MulAdd(hn::Mul(x, r), scale(d, j), shift(d, j));
  }
};

template <class W>
void Narrow(const double* values, Tile tile, TileRow<W>* row) {
  for (int64_t j = 0; j < tile.width; ++j) {
    row->values[j] = static_cast<W>(values[tile.begin + j]);
  }
}

// ---- Backward ------------------------------------------------------------------

// a and b of all channels, padded to whole vectors.
template <class W>
struct PullParams {
  PullParams(const double* all_a, const double* all_b, int64_t channels)
      : a(static_cast<size_t>(channels) + HWY_MAX_BYTES / sizeof(W)), b(a.size()) {
    for (int64_t c = 0; c < channels; ++c) {
      a[c] = static_cast<W>(all_a[c]);
      b[c] = static_cast<W>(all_b[c]);
    }
  }
  std::vector<W> a, b;
};

// One group of one token: a and b begin at its first channel.
template <class W>
struct PullOp {
  PerColumn<W> a, b;
  W r;
  W pull;  // r^3 * mean of x * d

  // d = a * dy + b * x * r
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V Gradient(D d, size_t j, V x, V dy) const {
    return hn::MulAdd(a(d, j), dy, hn::Mul(b(d, j), hn::Mul(x, hn::Set(d, r))));
  }
  template <class D>
  HWY_INLINE hn::Vec<D> NeutralX(D d, size_t) const {
    return hn::Zero(d);
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE void Add(D d, size_t j, V x, V dy, V&, V& sum) const {
    sum = hn::MulAdd(x, Gradient(d, j, x, dy), sum);
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE V Map(D d, size_t j, V x, V dy) const {
    return hn::NegMulAdd(x, hn::Set(d, pull), hn::Mul(Gradient(d, j, x, dy), hn::Set(d, r)));
  }
};

template <class T>
void PullGroup(const T* x, const T* dy, double r, const Wide<T>* a, const Wide<T>* b, size_t size,
               T* dx) {
  using W = Wide<T>;
  const size_t block = BlockElements(hn::ScalableTag<W>());
  PullOp<W> op{{a}, {b}, static_cast<W>(r), 0};
  double sum = 0;
  for (size_t i = 0; i < size; i += block) {
    op.a.values = a + i;
    op.b.values = b + i;
    double sums[2];
    SumRun<2, false>(x + i, dy + i, nullptr, std::min(block, size - i), op, sums);
    sum += sums[1];
  }
  op.a.values = a;
  op.b.values = b;
  op.pull = static_cast<W>(r * r * r * sum / static_cast<double>(size));
  MapRun<2, false>(x, dy, nullptr, size, op, dx);
}

}  // namespace

void GroupScale(const ConstSlab& x, int64_t groups, double eps, double* r) {
  const int64_t size = x.grid.channels / groups;
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    const T* in = static_cast<const T*>(x.data);
    const int64_t block = BlockElements(hn::ScalableTag<Wide<T>>());
    for (int64_t tg = 0; tg < x.grid.outer * groups; ++tg) {
      double sum = 0;
      for (int64_t i = 0; i < size; i += block) {
        double sums[2];
        const T* from = in + tg * size + i;
        SumRun<1, false>(from, from, nullptr, static_cast<size_t>(std::min(block, size - i)),
                         Squares(), sums);
        sum += sums[1];
      }
      r[tg] = 1 / std::sqrt(sum / static_cast<double>(size) + eps);
    }
  });
}

void PowerApply(const ConstSlab& x, const double* r, int64_t groups, const double* scale,
                const double* shift, const Slab& y) {
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    const Inputs<1, T> in{static_cast<const T*>(x.data), nullptr, x.grid.channels};
    ForEachTile(x.grid.channels, [&](Tile tile) HWY_ATTR {
      TileRow<Wide<T>> scales, shifts;
      Narrow(scale, tile, &scales);
      Narrow(shift, tile, &shifts);
      MapTile(in, tile, x.grid.outer, nullptr, GroupFactors(r, groups, x.grid.channels),
              ApplyOp<Wide<T>>{{scales.values}, {shifts.values}}, static_cast<T*>(y.data));
    });
  });
}

void PowerGrad(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
               const uint8_t* valid, const double* a, const double* b, const Slab& dx) {
  const int64_t channels = x.grid.channels;
  const int64_t size = channels / groups;
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    const T* in_x = static_cast<const T*>(x.data);
    const T* in_dy = static_cast<const T*>(dy.data);
    T* out = static_cast<T*>(dx.data);
    const PullParams<Wide<T>> params(a, b, channels);
    for (int64_t t = 0; t < x.grid.outer; ++t) {
      if (valid != nullptr && valid[t] == 0) {
        std::memset(static_cast<void*>(out + t * channels), 0,
                    static_cast<size_t>(channels) * sizeof(T));
        continue;
      }
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = t * channels + g * size;
        PullGroup(in_x + at, in_dy + at, r[t * groups + g], params.a.data() + g * size,
                  params.b.data() + g * size, static_cast<size_t>(size), out + at);
      }
    }
  });
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncnorm::kernels::cpu {

HWY_EXPORT(GroupScale);
HWY_EXPORT(PowerApply);
HWY_EXPORT(PowerGrad);

void GroupScale(const ConstSlab& x, int64_t groups, double eps, double* r) {
  HWY_DYNAMIC_DISPATCH(GroupScale)(x, groups, eps, r);
}

void PowerApply(const ConstSlab& x, const double* r, int64_t groups, const double* scale,
                const double* shift, const Slab& y) {
  HWY_DYNAMIC_DISPATCH(PowerApply)(x, r, groups, scale, shift, y);
}

void PowerGrad(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
               const uint8_t* valid, const double* a, const double* b, const Slab& dx) {
  HWY_DYNAMIC_DISPATCH(PowerGrad)(x, r, groups, dy, valid, a, b, dx);
}

}  // namespace syncnorm::kernels::cpu
#endif
