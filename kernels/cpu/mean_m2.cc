// Means and sums of squared deviations.
//
// A block of the data (runs-inl.h, columns-inl.h: as much as float32
// accumulators take without losing digits) is summed about a shift K near its
// mean: S1 = sum (x - K), S2 = sum (x - K)^2, and finished in double:
//
//   mean_b = K + S1 / n       M2_b = S2 - S1^2 / n
//
// Blocks are merged by Chan's update in double.  K is the mean so far; for the
// first block, that of a few samples.  The subtraction cancels little as long as K
// is within some deviations of the mean; where it is not, mean_b is a far
// better K, and the block is summed once more.  Once is enough: an error of
// 1e-6 in S1 leaves K at 1e-6 of its first distance.
#include <cstdint>
#include <vector>

#include "kernels/cpu/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/mean_m2.cc"
#include "hwy/foreach_target.h"
#include "kernels/cpu/columns-inl.h"
#include "kernels/cpu/runs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {
namespace {

// Samples of the first K.  With 8 of them, K is sqrt(1/8) deviations from the
// mean; for normal data one block in a million is then summed twice.
constexpr size_t kSamples = 8;

// K was too far off when the subtraction S2 - S1^2 / n takes away more than
// three quarters of S2: a loss of 2 bits of the 24, and a distance of 1.7
// deviations.  False for NaN, so data with NaN is summed once.
bool TooFar(double s1, double s2, double n) { return s1 * s1 > 0.75 * s2 * n; }

// Terms about K; K may be a Same or a PerColumn.
template <class K>
struct Deviations {
  K k;

  template <class D>
  HWY_INLINE hn::Vec<D> NeutralX(D d, size_t j) const {
    return k(d, j);
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE void Add(D d, size_t j, V x, V, V& s1, V& s2) const {
    const V deviation = hn::Sub(x, k(d, j));
    s1 = hn::Add(s1, deviation);
    s2 = hn::MulAdd(deviation, deviation, s2);
  }
  template <class D, class V = hn::Vec<D>>
  HWY_INLINE void Add(D d, size_t j, V x, V, V, V& s1, V& s2, V&) const {
    Add(d, j, x, x, s1, s2);
  }
};

// Chan's update of (mean, m2) of `before` elements by those of n others.
struct Merge {
  Merge(double before, double n) : share(n / (before + n)), weight(before * share) {}

  void operator()(double other_mean, double other_m2, double* mean, double* m2) const {
    const double delta = other_mean - *mean;
    // The first block is taken as it is: delta^2 may overflow.
    *mean = weight == 0 ? other_mean : *mean + delta * share;
    *m2 = weight == 0 ? other_m2 : *m2 + other_m2 + delta * delta * weight;
  }

  double share, weight;
};

// ---- Runs ---------------------------------------------------------------------

// A value near the mean of the valid ones; one at least is valid.  The samples
// are averaged about the first of them, so that equal ones have exactly their value
// as the mean.
template <class T>
Wide<T> Sample(const T* x, const uint8_t* valid, size_t n) {
  size_t first = 0;
  while (valid != nullptr && valid[first] == 0) ++first;
  const Wide<T> origin = LoadOne(x + first);
  Wide<T> sum = 0;
  Wide<T> samples = 0;
  for (size_t s = 0; s < kSamples; ++s) {
    const size_t i = s * n / kSamples;
    if (valid != nullptr && valid[i] == 0) continue;
    sum += LoadOne(x + i) - origin;
    samples += 1;
  }
  return samples > 0 ? origin + sum / samples : origin;
}

// Folds one block with n > 0 valid ones among `size` into (mean, m2).
template <class T>
void FoldRun(const T* x, const uint8_t* valid, size_t size, size_t n, uint64_t before, double* mean,
             double* m2) {
  if (n == size) valid = nullptr;
  double sums[2];
  const auto sum = [&](Wide<T> k) HWY_ATTR {
    const Deviations<Same<Wide<T>>> op{{k}};
    if (valid == nullptr) {
      SumRun<1, false>(x, x, valid, size, op, sums);
    } else {
      SumRun<1, true>(x, x, valid, size, op, sums);
    }
  };
  Wide<T> k = before > 0 ? static_cast<Wide<T>>(*mean) : Sample(x, valid, size);
  sum(k);
  const double count = static_cast<double>(n);
  if (TooFar(sums[0], sums[1], count)) {
    k = static_cast<Wide<T>>(k + sums[0] / count);
    sum(k);
  }
  Merge(static_cast<double>(before), count)(k + sums[0] / count,
                                            sums[1] - sums[0] * sums[0] / count, mean, m2);
}

template <class T>
void MeanM2Runs(const T* x, const Grid& grid, const uint8_t* valid, double* mean, double* m2) {
  const int64_t block = BlockElements(hn::ScalableTag<Wide<T>>());
  uint64_t before = 0;
  for (int64_t o = 0; o < grid.outer; ++o) {
    uint64_t of_run = 0;
    for (int64_t i = 0; i < grid.inner; i += block) {
      const size_t size = static_cast<size_t>(std::min(block, grid.inner - i));
      const uint8_t* ok = valid == nullptr ? nullptr : valid + o * grid.inner + i;
      const size_t n = CountValid(ok, size);
      if (n == 0) continue;
      for (int64_t c = 0; c < grid.channels; ++c) {
        FoldRun(x + (o * grid.channels + c) * grid.inner + i, ok, size, n, before + of_run,
                mean + c, m2 + c);
      }
      of_run += n;
    }
    before += of_run;
  }
}

// ---- Columns -------------------------------------------------------------------

// k = per column, a value near the mean of the block's rows.
template <class T>
void SampleColumns(const Inputs<1, T>& in, Tile tile, const RowBlocks& block, TileRow<Wide<T>>* k,
                   TileRow<Wide<T>>* sums) {
  const size_t samples = std::min(kSamples, block.count());
  int64_t rows[kSamples];
  for (size_t s = 0; s < samples; ++s) rows[s] = block.rows()[s * block.count() / samples];
  const T* first = in.x + rows[0] * in.columns + tile.begin;
  const hn::ScalableTag<Wide<T>> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= tile.width; j += lanes) {
    hn::StoreU(LoadLanes(d, first + j), d, k->values + j);
  }
  hn::StoreU(LoadSome(d, first + j, static_cast<size_t>(tile.width - j)), d, k->values + j);
  SumTile<2>(in, tile, rows, samples, NoFactors(), Deviations<PerColumn<Wide<T>>>{{k->values}},
             sums);
  const Wide<T> share = Wide<T>{1} / static_cast<Wide<T>>(samples);
  for (j = 0; j < tile.width; ++j) k->values[j] += sums[0].values[j] * share;
}

// Folds all rows of a tile into (mean, m2) of `before` rows each.
template <class T>
void FoldTile(const Inputs<1, T>& in, Tile tile, int64_t rows, const uint8_t* valid,
              uint64_t before, double* mean, double* m2) {
  TileRow<Wide<T>> k, sums[2];
  const Wide<T>* s1 = sums[0].values;
  const Wide<T>* s2 = sums[1].values;
  const Deviations<PerColumn<Wide<T>>> op{{k.values}};
  for (RowBlocks block(rows, valid); block.Next(); before += block.count()) {
    const double n = static_cast<double>(block.count());
    if (before == 0) {
      SampleColumns(in, tile, block, &k, sums);
    } else {
      for (int64_t j = 0; j < tile.width; ++j) k.values[j] = static_cast<Wide<T>>(mean[j]);
    }
    SumTile<2>(in, tile, block.rows(), block.count(), NoFactors(), op, sums);
    bool again = false;
    for (int64_t j = 0; j < tile.width; ++j) again |= TooFar(s1[j], s2[j], n);
    if (again) {
      for (int64_t j = 0; j < tile.width; ++j) {
        k.values[j] = static_cast<Wide<T>>(k.values[j] + s1[j] / n);
      }
      SumTile<2>(in, tile, block.rows(), block.count(), NoFactors(), op, sums);
    }
    const Merge merge(static_cast<double>(before), n);
    const double per_n = 1 / n;
    for (int64_t j = 0; j < tile.width; ++j) {
      const double sum = s1[j];
      merge(k.values[j] + sum * per_n, s2[j] - sum * sum * per_n, mean + j, m2 + j);
    }
  }
}

struct Column {
  double mean, m2;
};

// All columns of channel c as one.  Each has n rows, so the mean is the mean of
// their means; it is taken about the first of them, so that equal ones are kept
// exactly.
inline Column FoldColumns(const Grid& grid, int64_t c, double n, const std::vector<double>& mean,
                          const std::vector<double>& m2) {
  const size_t row = static_cast<size_t>(grid.channels * grid.inner);
  const size_t inner = static_cast<size_t>(grid.inner);
  const size_t first = static_cast<size_t>(c) * inner;
  Column all{0, 0};
  for (size_t begin = first; begin < mean.size(); begin += row) {
    for (size_t j = begin; j < begin + inner; ++j) all.mean += mean[j] - mean[first];
  }
  all.mean = mean[first] + all.mean / static_cast<double>(mean.size() / grid.channels);
  for (size_t begin = first; begin < mean.size(); begin += row) {
    for (size_t j = begin; j < begin + inner; ++j) {
      const double delta = mean[j] - all.mean;
      all.m2 += m2[j] + n * delta * delta;
    }
  }
  return all;
}

// Folds a table, whose columns have n valid rows each, into (mean, m2) of
// `before` positions of each channel.
template <class T>
void FoldTable(const T* x, const Grid& grid, const Table& table, const uint8_t* valid, uint64_t n,
               uint64_t before, double* mean, double* m2) {
  if (n == 0) return;
  const Inputs<1, T> in{x + table.offset, nullptr, table.columns};
  if (table.columns == grid.channels) {  // the columns are the channels
    ForEachTile(table.columns, [&](Tile tile) HWY_ATTR {
      FoldTile(in, tile, table.rows, valid, before, mean + tile.begin, m2 + tile.begin);
    });
    return;
  }
  const size_t columns = static_cast<size_t>(table.columns);
  std::vector<double> column_mean(columns), column_m2(columns);
  ForEachTile(table.columns, [&](Tile tile) HWY_ATTR {
    FoldTile(in, tile, table.rows, valid, 0, column_mean.data() + tile.begin,
             column_m2.data() + tile.begin);
  });
  const Merge merge(static_cast<double>(before), static_cast<double>(n * columns / grid.channels));
  for (int64_t c = 0; c < grid.channels; ++c) {
    const Column channel = FoldColumns(grid, c, static_cast<double>(n), column_mean, column_m2);
    merge(channel.mean, channel.m2, mean + c, m2 + c);
  }
}

template <class T>
void MeanM2Of(const T* x, const Grid& grid, const uint8_t* valid, uint64_t count, double* mean,
              double* m2) {
  std::fill_n(mean, grid.channels, 0.0);
  std::fill_n(m2, grid.channels, 0.0);
  if (count == 0 || grid.channels == 0) return;
  if (!WalkColumns(grid, valid)) return MeanM2Runs(x, grid, valid, mean, m2);
  const Tables tables = TablesOf(grid, valid);
  const uint64_t rest = static_cast<uint64_t>(tables.rest.rows);
  const uint64_t main = valid == nullptr ? static_cast<uint64_t>(tables.main.rows) : count;
  FoldTable(x, grid, tables.main, valid, main, 0, mean, m2);
  FoldTable(x, grid, tables.rest, nullptr, rest, count - rest * grid.inner, mean, m2);
}

}  // namespace

void MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean, double* m2) {
  *count = CountValid(valid, static_cast<size_t>(x.grid.positions()));
  WithElement(x.dtype, [&](auto* element) HWY_ATTR {
    using T = std::remove_pointer_t<decltype(element)>;
    MeanM2Of(static_cast<const T*>(x.data), x.grid, valid, *count, mean, m2);
  });
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace syncnorm::kernels::cpu {

HWY_EXPORT(MeanM2);

void MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean, double* m2) {
  HWY_DYNAMIC_DISPATCH(MeanM2)(x, valid, count, mean, m2);
}

}  // namespace syncnorm::kernels::cpu
#endif
