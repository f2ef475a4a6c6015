// Columns: tensors whose rows all hold the same channels in the same order,
// walked in tiles of columns and blocks of rows (layout.h).  An operation sees
// a vector of columns at a time, and its parameters are per column.
//
// Factors.  PowerNorm multiplies every row by a factor of its own, for each
// group of columns; the others use NoFactors.
//
// Per target; included inside foreach_target's loop only.
#if defined(SYNCNORM_KERNELS_CPU_COLUMNS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SYNCNORM_KERNELS_CPU_COLUMNS_INL_H_
#undef SYNCNORM_KERNELS_CPU_COLUMNS_INL_H_
#else
#define SYNCNORM_KERNELS_CPU_COLUMNS_INL_H_
#endif

#include <algorithm>

#include "hwy/cache_control.h"
#include "kernels/cpu/lanes-inl.h"
#include "kernels/cpu/layout.h"

HWY_BEFORE_NAMESPACE();
namespace syncnorm::kernels::HWY_NAMESPACE {

// Columns of a tile: parameters and sums, 4 KiB each in f32, stay in L1.
constexpr int64_t kTileColumns = 1024;
// Rows of a block: 4 are added to each other first, so a sum sees 128 additions
// before it is taken over in double (see BlockElements).
constexpr size_t kBlockRows = 512;

// Rows to prefetch ahead of sums: the next 4 but one.  Hardware prefetchers lose
// the track of 4 rows read side by side; for (32, 64, 56, 56) channels last this
// takes the statistics from 820 to 640 us.
constexpr int64_t kPrefetchRows = 8;

// One value per column of a tile, padded so that a whole vector may be read and
// written at the last column.
template <class W>
struct alignas(64) TileRow {
  W values[kTileColumns + HWY_MAX_BYTES / sizeof(W)];
};

// Part of a row: columns [begin, begin + width) of all `columns`.
struct Tile {
  int64_t begin = 0;
  int64_t width = 0;
};

// The rows of a table that count, block by block.
class RowBlocks {
 public:
  RowBlocks(int64_t rows, const uint8_t* valid) : total_(rows), valid_(valid) {}

  // False at the end.
  bool Next() {
    count_ = 0;
    for (; next_ < total_ && count_ < kBlockRows; ++next_) {
      if (valid_ == nullptr || valid_[next_] != 0) rows_[count_++] = next_;
    }
    return count_ > 0;
  }
  const int64_t* rows() const { return rows_; }
  size_t count() const { return count_; }

 private:
  const int64_t total_;
  const uint8_t* const valid_;
  int64_t next_ = 0;
  size_t count_ = 0;
  int64_t rows_[kBlockRows];
};

struct NoFactors {
  // Where the columns that share a factor with column j end.
  int64_t End(int64_t, int64_t end) const { return end; }
  template <class D>
  HWY_INLINE hn::Vec<D> Of(D d, int64_t, int64_t) const {
    return hn::Zero(d);
  }
};

struct GroupFactors {
  GroupFactors(const double* factors, int64_t group_count, int64_t channels)
      : r(factors), groups(group_count), size(channels / group_count) {}
  int64_t End(int64_t j, int64_t end) const { return std::min(end, (j / size + 1) * size); }
  template <class D>
  HWY_INLINE hn::Vec<D> Of(D d, int64_t row, int64_t j) const {
    return hn::Set(d, static_cast<hn::TFromD<D>>(r[row * groups + j / size]));
  }

  const double* r;
  int64_t groups;
  int64_t size;
};

// One or two inputs with rows of `columns` elements; dy is null where there is one.
template <size_t kInputs, class T>
struct Inputs {
  const T* x;
  const T* dy;
  int64_t columns;
};

// Adds op's terms of kRows rows to sums[0 .. kSums).  Op has
//   Add(d, j, x, dy, factor, &sum0, &sum1, &sum2), j counted from the tile.
// Where columns have factors, the lanes beyond a group's last column are loaded
// as 0 and must add 0.
template <size_t kRows, size_t kSums, size_t kInputs, class T, class Factors, class Op>
HWY_INLINE void SumRows(const Inputs<kInputs, T>& in, Tile tile, const int64_t* rows,
                        const Factors& factors, const Op& op, TileRow<Wide<T>>* sums) {
  static_assert(kRows == 1 || kRows == 4);
  const hn::ScalableTag<Wide<T>> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t end = tile.begin + tile.width;
  // What the loop uses are locals, for a store to sums could change anything else.
  const Op local_op = op;
  const T* x[kRows];
  const T* dy[kRows];
  for (size_t i = 0; i < kRows; ++i) {
    x[i] = in.x + rows[i] * in.columns;
    dy[i] = kInputs == 2 ? in.dy + rows[i] * in.columns : x[i];
  }
  Wide<T>* const out0 = sums[0].values;
  Wide<T>* const out1 = sums[kSums > 1 ? 1 : 0].values;
  Wide<T>* const out2 = sums[kSums > 2 ? 2 : 0].values;
  for (int64_t j = tile.begin; j < end;) {
    const int64_t stop = factors.End(j, end);
    const auto f0 = factors.Of(d, rows[0], j);
    const auto f1 = factors.Of(d, rows[kRows == 4 ? 1 : 0], j);
    const auto f2 = factors.Of(d, rows[kRows == 4 ? 2 : 0], j);
    const auto f3 = factors.Of(d, rows[kRows == 4 ? 3 : 0], j);
    const auto step = [&](const auto& load) HWY_ATTR {
      const size_t at = static_cast<size_t>(j - tile.begin);
      auto s0 = hn::Zero(d), s1 = s0, s2 = s0;
      const auto add = [&](size_t i, auto f) HWY_ATTR {
        const auto vx = load(x[i] + j);
        hwy::Prefetch(x[i] + j + kPrefetchRows * in.columns);
        auto vdy = vx;
        if constexpr (kInputs == 2) {
          vdy = load(dy[i] + j);
          hwy::Prefetch(dy[i] + j + kPrefetchRows * in.columns);
        }
        local_op.Add(d, at, vx, vdy, f, s0, s1, s2);
      };
      add(0, f0);
      if constexpr (kRows == 4) {
        add(1, f1);
        add(2, f2);
        add(3, f3);
      }
      hn::StoreU(hn::Add(hn::LoadU(d, out0 + at), s0), d, out0 + at);
      if constexpr (kSums > 1) hn::StoreU(hn::Add(hn::LoadU(d, out1 + at), s1), d, out1 + at);
      if constexpr (kSums > 2) hn::StoreU(hn::Add(hn::LoadU(d, out2 + at), s2), d, out2 + at);
    };
    for (; j + lanes <= stop; j += lanes) {
      step([&](const T* p) HWY_ATTR { return LoadLanes(d, p); });
    }
    if (j < stop) {
      const size_t rest = static_cast<size_t>(stop - j);
      step([&](const T* p) HWY_ATTR { return LoadSome(d, p, rest); });
      j = stop;
    }
  }
}

// sums = op's terms over a block of rows.
template <size_t kSums, size_t kInputs, class T, class Factors, class Op>
HWY_NOINLINE void SumTile(const Inputs<kInputs, T>& in, Tile tile, const int64_t* rows,
                          size_t count, const Factors& factors, const Op& op,
                          TileRow<Wide<T>>* sums) {
  for (size_t s = 0; s < kSums; ++s) {
    std::fill_n(sums[s].values, tile.width, Wide<T>{0});
  }
  size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    SumRows<4, kSums>(in, tile, rows + i, factors, op, sums);
  }
  for (; i < count; ++i) SumRows<1, kSums>(in, tile, rows + i, factors, op, sums);
}

// y = op.Map(x, dy, factor) for one row; rows of y lie as those of x.
template <size_t kInputs, class T, class Factors, class Op>
HWY_INLINE void MapRow(const Inputs<kInputs, T>& in, Tile tile, int64_t row, const Factors& factors,
                       const Op& op, T* y) {
  const hn::ScalableTag<Wide<T>> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t end = tile.begin + tile.width;
  // Locals, for a store to y could change anything else.
  const Op local_op = op;
  const T* const x = in.x + row * in.columns;
  const T* const dy = kInputs == 2 ? in.dy + row * in.columns : x;
  y += row * in.columns;
  for (int64_t j = tile.begin; j < end;) {
    const int64_t stop = factors.End(j, end);
    const auto f = factors.Of(d, row, j);
    const auto map = [&](const auto& load) HWY_ATTR {
      const auto vx = load(x + j);
      auto vdy = vx;
      if constexpr (kInputs == 2) vdy = load(dy + j);
      return local_op.Map(d, static_cast<size_t>(j - tile.begin), vx, vdy, f);
    };
    for (; j + lanes <= stop; j += lanes) {
      StoreLanes(map([&](const T* p) HWY_ATTR { return LoadLanes(d, p); }), d, y + j);
    }
    if (j < stop) {
      const size_t rest = static_cast<size_t>(stop - j);
      StoreSome(map([&](const T* p) HWY_ATTR { return LoadSome(d, p, rest); }), d, y + j, rest);
      j = stop;
    }
  }
}

// y = op.Map(...) for all rows; masked rows are set to 0.
template <size_t kInputs, class T, class Factors, class Op>
HWY_NOINLINE void MapTile(const Inputs<kInputs, T>& in, Tile tile, int64_t rows,
                          const uint8_t* valid, const Factors& factors, const Op& op, T* y) {
  for (int64_t row = 0; row < rows; ++row) {
    if (valid == nullptr || valid[row] != 0) {
      MapRow(in, tile, row, factors, op, y);
    } else {
      std::memset(static_cast<void*>(y + row * in.columns + tile.begin), 0,
                  static_cast<size_t>(tile.width) * sizeof(T));
    }
  }
}

// Calls f(tile) for all tiles of a row.
template <class F>
HWY_INLINE void ForEachTile(int64_t columns, const F& f) {
  for (int64_t begin = 0; begin < columns; begin += kTileColumns) {
    f(Tile{begin, std::min(kTileColumns, columns - begin)});
  }
}

}  // namespace syncnorm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // SYNCNORM_KERNELS_CPU_COLUMNS_INL_H_
