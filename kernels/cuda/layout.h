// Layout: how an operation's work is divided among blocks and threads.  Host only, and plain
// arithmetic: the same grid, dtype and number of multiprocessors give the same division, which is
// why equal calls give equal bits.
//
//   maps               one flat sequence of 16-byte items (MapLayout)
//   sums, inner > 1    runs: a team of threads per channel (RunsLayout)
//   sums, inner == 1   columns: a tile of channels, rows side by side (ColumnsLayout)
//   per token          runs again, one per token and group (GroupsLayout)
//
// Sums that have fewer tiles than the device has room for blocks are split; the parts meet in the
// scratch (reduce.cuh).
//
// Thread-safety: plain values.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "kernels/kernels.h"

namespace syncnorm::kernels::cuda {

// Threads of every block.
inline constexpr int kThreads = 256;
// Blocks wanted on each multiprocessor, as many as fit with 128 registers a thread.  In sums a
// thread has 64 bytes under way (4 loads of 16), a multiprocessor 32 KiB: an H100 needs 18 KiB by
// Little's law (3.35 TB/s, 700 ns, 132 multiprocessors) and somewhat more under load, a T4 4 KiB.
inline constexpr int kBlocksPerMultiprocessor = 2;
// Split tiles have tickets at the start of the scratch, always in the same place so that they are
// zero for every grid.  There are no more split tiles than blocks wanted.
inline constexpr int kTickets = 4096;
inline constexpr size_t kTicketBytes = kTickets * sizeof(unsigned);
// The most numbers that any sum keeps per channel: a count and three sums.
inline constexpr int kMostValues = 4;
// Loads of a thread that are under way together in sums.
inline constexpr int kTeamItems = 2;
// A part of a split sum has at least this many items a thread, so that the merge (some 2 us) does
// not outweigh what is gained.
inline constexpr int kFewItems = 16;

constexpr int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The smallest power of two >= n, within [low, high].
constexpr int PowerOfTwo(int64_t n, int low, int high) {
  int p = low;
  while (p < n && p < high) p *= 2;
  return p;
}

inline int64_t BlocksWanted(int multiprocessors) {
  return std::min<int64_t>(int64_t{multiprocessors} * kBlocksPerMultiprocessor, kTickets);
}

// Parts to split each of `tiles` into when every part has room for `most`.
inline int SplitsOf(int64_t tiles, int64_t most, int multiprocessors) {
  if (tiles == 0) return 1;
  return static_cast<int>(std::max<int64_t>(
      std::min({BlocksWanted(multiprocessors) / tiles, most, BlocksWanted(multiprocessors)}), 1));
}

// ---- Maps -----------------------------------------------------------------

// Item i is elements [i * lanes - head, + lanes).  A thread takes items of one distance, `stride`,
// and where there are several, stride * lanes is a multiple of a row (channels * inner elements):
// its lanes stay in their channels, whose parameters it keeps in registers.
struct MapLayout {
  int64_t items = 0;
  int64_t blocks = 0;

  MapLayout(const Grid& grid, int lanes, int head, int multiprocessors) {
    const int64_t row = grid.channels * grid.inner;
    const int64_t elements = grid.outer * row;
    if (elements == 0) return;
    items = DivideUp(elements + head, lanes);
    blocks = DivideUp(items, kThreads);
    // The blocks of a lap come in multiples of `unit`.
    const int64_t unit = row / std::gcd<int64_t>(row, int64_t{kThreads} * lanes);
    // Twice what is wanted for sums: maps hold fewer loads a thread.
    const int64_t wanted = 2 * BlocksWanted(multiprocessors);
    const int64_t laps = unit <= wanted ? wanted / unit * unit : unit;
    blocks = std::min(blocks, laps);
  }
};

// ---- Runs -----------------------------------------------------------------

// A run of `inner` elements has `items` windows of 16 aligned bytes, of which the first and the
// last are partly outside; a channel's items are those of its `outer` runs.  `team` threads work on
// a channel or, where splits > 1, a block on a part of it.
struct RunsLayout {
  int64_t run_items = 0;    // of one run
  int64_t items = 0;        // of one channel
  int team = kThreads;      // power of two
  int64_t tiles = 0;        // of kThreads / team channels
  int splits = 1;           // > 1 only for whole blocks
  int64_t split_items = 0;  // of each part but the last

  RunsLayout(const Grid& grid, int lanes, int multiprocessors) {
    run_items = grid.inner == 0 ? 0 : DivideUp(grid.inner + lanes - 1, lanes);
    items = grid.outer * run_items;
    team = PowerOfTwo(DivideUp(items, 2 * kTeamItems), 8, kThreads);
    tiles = DivideUp(grid.channels, kThreads / team);
    const int64_t most = team == kThreads ? DivideUp(items, kThreads * kFewItems) : 1;
    splits = SplitsOf(tiles, most, multiprocessors);
    split_items = std::max<int64_t>(DivideUp(items, splits), 1);
    splits = static_cast<int>(std::max<int64_t>(DivideUp(items, split_items), 1));
  }
};

// ---- Columns --------------------------------------------------------------

// Threads stand `across` by `down`; each has `lanes` channels of every down-th row of its part.
struct ColumnsLayout {
  int across = 1;  // power of two
  int down = kThreads;
  int64_t tiles = 0;
  int splits = 1;
  int64_t split_rows = 0;

  ColumnsLayout(const Grid& grid, int lanes, int multiprocessors) {
    const int64_t rows = grid.outer;
    // 8 threads side by side read the 128 bytes that memory likes best; more of them where there
    // are not rows enough for the others.
    const int64_t wanted = DivideUp(grid.channels, lanes);
    across = PowerOfTwo(wanted, 1, 8);
    while (across < wanted && across < kThreads / 4 && kThreads / across > rows) across *= 2;
    down = kThreads / across;
    tiles = DivideUp(grid.channels, int64_t{across} * lanes);
    splits = SplitsOf(tiles, DivideUp(rows, int64_t{down} * kFewItems), multiprocessors);
    split_rows = std::max<int64_t>(DivideUp(rows, splits), 1);
    splits = static_cast<int>(std::max<int64_t>(DivideUp(rows, split_rows), 1));
  }
};

// What a sum over `channels` needs when it is split.
constexpr size_t SplitBytes(int64_t channels, int splits) {
  if (splits <= 1) return 0;
  return kTicketBytes +
         static_cast<size_t>(channels) * static_cast<size_t>(splits) * kMostValues * sizeof(double);
}

// ---- Tokens ---------------------------------------------------------------

// A run per token and group, a team of threads for each.
struct GroupsLayout {
  int64_t runs = 0;
  int64_t run_items = 0;
  int team = 1;
  int64_t blocks = 0;

  // `thread_items`: what a thread takes at most, unless a whole block is too few.
  GroupsLayout(const Grid& grid, int64_t groups, int lanes, int thread_items, int multiprocessors) {
    runs = grid.outer * groups;
    const int64_t size = grid.channels / groups;
    run_items = DivideUp(size + lanes - 1, lanes);
    team = PowerOfTwo(DivideUp(run_items, thread_items), 1, kThreads);
    blocks = std::min(DivideUp(runs, kThreads / team), 2 * BlocksWanted(multiprocessors));
  }
};

}  // namespace syncnorm::kernels::cuda
