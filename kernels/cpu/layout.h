// Layout: how the SIMD kernels walk a grid.  Either as *runs* (elements of one
// channel, one after the other), or as a table of *columns*: every row has the
// same channels in the same order, and the kernels are vectorised across them.
//
//   grid                      walked as    columns of a row
//   {P, C, 1}                 columns      C, or several rows of C side by side
//                                          when C alone would not fill vectors
//   {N, C, S}, S short        columns      C * S
//   {N, C, S}, S long         runs         -
//
// Short runs in which some positions are masked stay runs: a column would be
// masked in some rows only.
//
// Thread-safety: plain values.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/kernels.h"

namespace syncnorm::kernels {

// Rows of one table, beginning at element `offset` of the tensor.  Column j
// holds channel (j / inner) % channels.
struct Table {
  int64_t offset = 0;
  int64_t rows = 0;
  int64_t columns = 0;
};

// Shorter runs are walked as columns: a run costs some 20 ns of its own (its
// sums are finished in double, its last vector is partial), a column of 32 rows
// 5 ns.  Statistics of 32 x 512 runs of 49 take 130 us as columns and 225 us as
// runs; of 32 x 256 runs of 196, 300 us and 150 us.
inline constexpr int64_t kShortRun = 64;
// Fewer rows would not pay for writing the parameters of every column.
inline constexpr int64_t kFewRows = 8;
// A row narrower than this is laid side by side with the next ones: 16 vectors
// of 16 lanes, so that a partial vector at the end costs little.
inline constexpr int64_t kNarrowRow = 256;

inline bool WalkColumns(const Grid& grid, const uint8_t* valid) {
  if (grid.inner == 1) return true;
  return valid == nullptr && grid.inner < kShortRun && grid.outer >= kFewRows;
}

// The tables of a grid that is walked as columns: the second one, of the rows
// that are left over from laying `n` side by side, is often empty.
struct Tables {
  Table main, rest;
};

inline Tables TablesOf(const Grid& grid, const uint8_t* valid) {
  const int64_t row = grid.channels * grid.inner;
  int64_t n = 1;
  if (grid.inner == 1 && valid == nullptr && row > 0 && row < kNarrowRow) {
    n = std::clamp<int64_t>(kNarrowRow / row, 1, std::max<int64_t>(grid.outer / kFewRows, 1));
  }
  const int64_t rows = grid.outer / n;
  return {{0, rows, n * row}, {rows * n * row, grid.outer % n, row}};
}

// Walks the channels of consecutive columns, without a division for each.
class ChannelWalk {
 public:
  ChannelWalk(const Grid& grid, int64_t column)
      : grid_(grid), c_((column / grid.inner) % grid.channels), i_(column % grid.inner) {}

  int64_t Next() {
    const int64_t c = c_;
    if (++i_ == grid_.inner) {
      i_ = 0;
      if (++c_ == grid_.channels) c_ = 0;
    }
    return c;
  }

 private:
  Grid grid_;
  int64_t c_, i_;
};

}  // namespace syncnorm::kernels
