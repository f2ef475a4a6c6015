// Sums per channel, in one launch.
//
// A block reads its share of a tile of channels and merges what its threads have.  Where a
// tile is split, each block writes its part to the scratch and draws a ticket; whoever draws the
// last one merges the parts, in the order of the parts, not of the blocks' arrival, and the ticket
// is back at zero (atomicInc wraps around).  Nobody waits for anyone.
//
// An Op has
//   kInputs                  1 or 2 (x and dy)
//   kRows, kRowsOfHalves     items of each input that a thread reads before it uses them; the
//                            latter for columns of 16-bit elements, 8 of which need many registers
//   kBlocks                  blocks that fit on a multiprocessor, at
//                            65536 / (kBlocks * kThreads) registers
//   Thread<W, kColumns>      an accumulator (accumulate.cuh) with what it needs to know
//                            of the channels:
//     Thread(op), Prepare(k, channel)
//     Add(x, dy, factor, ok)   a batch: functions of (row, column), and ok[rows]
//   kWalksGroups             Add takes the token's factor for the channel's group
//   Store(channel, values)   writes a channel's result
// and `uint64_t* count`, which becomes the number of positions summed.
#pragma once

#include "kernels/cuda/accumulate.cuh"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"

namespace syncnorm::kernels::cuda {

// Where a split sum's parts meet.
struct Meeting {
  int splits;
  unsigned* tickets;
  double* parts;  // [part][value][channel]
};

// To be called by all threads of a block that has written its part: is it the last one of its tile?
__device__ inline bool IsLast(const Meeting& meeting, int64_t tile) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned most = static_cast<unsigned>(meeting.splits) - 1;
    last = atomicInc(meeting.tickets + tile, most) == most;
  }
  __syncthreads();
  if (last) __threadfence();
  return last;
}

// A finished channel of one block: its result, or its part of it.
template <int kValues, class Op>
__device__ inline void Deliver(const Op& op, const Meeting& meeting, int split, int64_t channel,
                               int64_t channels, const double (&values)[kValues]) {
  if (meeting.splits == 1) {
    if (channel == 0) *op.count = static_cast<uint64_t>(values[0]);
    op.Store(channel, values);
    return;
  }
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    meeting.parts[(int64_t{split} * kValues + v) * channels + channel] = values[v];
  }
}

// What the last block of a tile does: merges channels [first, first + cols).
template <class Merge, int kValues, class Op>
__device__ inline void MergeParts(const Op& op, const Meeting& meeting, int64_t first, int cols,
                                  int64_t channels) {
  double values[kValues];
  Merge::Run(
      meeting.splits, cols,
      [&](int split, int col, int v) {
        const int64_t channel = first + col;
        if (channel >= channels) return 0.0;
        return __ldcg(meeting.parts + (int64_t{split} * kValues + v) * channels + channel);
      },
      values);
  const int64_t channel = first + threadIdx.x;
  if (static_cast<int>(threadIdx.x) < cols && channel < channels) {
    if (channel == 0) *op.count = static_cast<uint64_t>(values[0]);
    op.Store(channel, values);
  }
}

struct NoFactor {};

template <class T>
struct ReduceArgs {
  Grid grid;
  const T* x;
  const T* dy;
  bool x_aligned, dy_aligned;  // see the kernels
  const uint8_t* valid;
  const Wide<T>* factors;
  int64_t groups;
  Meeting meeting;
};

// ---- Runs -----------------------------------------------------------------

// Alignment: windows are those of x's addresses, so that x is always read 16 aligned bytes
// at a time (reading beyond a run, in the same tensor, is harmless); dy is where its addresses
// lie like x's.
template <class T, class Op>
__global__ void __launch_bounds__(kThreads, Op::kBlocks)
    ReduceRuns(ReduceArgs<T> a, RunsLayout layout, int head, Op op) {
  using W = Wide<T>;
  constexpr int kN = kLanes<T>;
  constexpr int kRows = Op::kRows;
  using Thread = typename Op::template Thread<W, 1>;
  const int tid = static_cast<int>(threadIdx.x);
  const int team = layout.team;
  const int cols = kThreads / team;
  const int64_t tile = blockIdx.x / layout.splits;
  const int split = static_cast<int>(blockIdx.x % layout.splits);
  const int64_t c = tile * cols + tid / team;
  const int64_t inner = a.grid.inner;
  const int64_t elements = a.grid.outer * a.grid.channels * inner;

  Thread thread(op);
  if (c < a.grid.channels) {
    thread.Prepare(0, c);
    int64_t item = split * layout.split_items + tid % team;
    const int64_t rest = layout.items - split * layout.split_items;
    const int64_t end = split * layout.split_items + min(layout.split_items, rest);
    int64_t o = layout.run_items == 0 ? 0 : item / layout.run_items;
    int64_t window = item - o * layout.run_items;
    int batches = 0;
    while (item < end) {
      Lanes<T> xs[kRows], dys[kRows];
      bool ok[kRows * kN];
#pragma unroll
      for (int u = 0; u < kRows; ++u) {
        const int64_t run = (o * a.grid.channels + c) * inner;
        const int before = static_cast<int>((head + run) & (kN - 1));
        const int64_t i = window * kN - before;
        const bool mine = item < end;
        xs[u] = dys[u] = {};
        if (mine) {
          xs[u] = LoadLanes(a.x, run + i, elements, a.x_aligned);
          if constexpr (Op::kInputs == 2) {
            dys[u] = LoadLanes(a.dy, run + i, elements, a.dy_aligned);
          }
        }
#pragma unroll
        for (int k = 0; k < kN; ++k) {
          bool counts = mine && i + k >= 0 && i + k < inner;
          if (counts && a.valid != nullptr) counts = a.valid[o * inner + i + k] != 0;
          ok[u * kN + k] = counts;
        }
        item += team;
        window += team;
        while (window >= layout.run_items) {
          window -= layout.run_items;
          ++o;
        }
      }
      thread.Add([&](int i, int) { return Widen(xs[i / kN].at[i % kN]); },
                 [&](int i, int) { return Widen(dys[i / kN].at[i % kN]); }, NoFactor{}, ok);
      if (++batches % kFoldEvery == 0) thread.Fold();
    }
    thread.Fold();
  }

  __shared__ double parts[Thread::kValues][kThreads];
#pragma unroll
  for (int v = 0; v < Thread::kValues; ++v) {
    parts[v][tid % team * cols + tid / team] = thread.Get(0, v);
  }
  __syncthreads();
  double values[Thread::kValues];
  Thread::Merge::Run(
      team, cols, [&](int i, int col, int v) { return parts[v][i * cols + col]; }, values);
  const int64_t channel = tile * cols + tid;
  if (tid < cols && channel < a.grid.channels) {
    Deliver(op, a.meeting, split, channel, a.grid.channels, values);
  }
  if (a.grid.channels == 0 && tid == 0) *op.count = 0;
  if (a.meeting.splits > 1 && IsLast(a.meeting, tile)) {
    MergeParts<typename Thread::Merge, Thread::kValues>(op, a.meeting, tile * cols, cols,
                                                        a.grid.channels);
  }
}

// ---- Columns --------------------------------------------------------------

// Alignment: a thread's lanes are neighbours where rows and addresses are aligned (x_aligned and
// dy_aligned are then both true); otherwise they lie `across` apart, so that a warp's
// accesses of single elements are still to neighbours.  Which rows are merged with which does not
// change with it.
template <class T, class Op>
__global__ void __launch_bounds__(kThreads, Op::kBlocks)
    ReduceColumns(ReduceArgs<T> a, ColumnsLayout layout, Op op) {
  using W = Wide<T>;
  constexpr int kN = kLanes<T>;
  constexpr int kRows = kN == 8 ? Op::kRowsOfHalves : Op::kRows;
  using Thread = typename Op::template Thread<W, kN>;
  const int tid = static_cast<int>(threadIdx.x);
  const int across = layout.across;
  const int in_row = tid & (across - 1);
  const int down = tid / across;
  const int64_t tile = blockIdx.x / layout.splits;
  const int split = static_cast<int>(blockIdx.x % layout.splits);
  const int64_t channels = a.grid.channels;
  const bool aligned = a.x_aligned;
  const int64_t first = tile * across * kN + (aligned ? in_row * kN : in_row);
  const int step = aligned ? 1 : across;

  Thread thread(op);
  // Channels of a row and groups are counted in 32 bits: the division is for lanes of more groups
  // than one only, but then for each.
  const unsigned size =
      Op::kWalksGroups ? static_cast<unsigned>(max(channels / a.groups, int64_t{1})) : 1;
  const auto group_of = [&](int k) {
    return static_cast<unsigned>(min(first + k * step, channels - 1)) / size;
  };
#pragma unroll
  for (int k = 0; k < kN; ++k) {
    const int64_t c = first + k * step;
    if (c < channels) thread.Prepare(k, c);
  }
  const unsigned group = Op::kWalksGroups ? group_of(0) : 0;
  const bool one_group = Op::kWalksGroups && group == group_of(kN - 1);
  const int64_t begin = split * layout.split_rows;
  const int64_t end = begin + min(layout.split_rows, a.grid.outer - begin);
  int batches = 0;
  for (int64_t row = begin + down; first < channels && row < end; row += kRows * layout.down) {
    Lanes<T> xs[kRows], dys[kRows];
    bool ok[kRows];
    W factor[kRows];  // of all lanes, where they have one group
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
      const int64_t mine = row + u * layout.down;
      xs[u] = dys[u] = {};
      factor[u] = 0;
      ok[u] = mine < end;
      if (!ok[u]) continue;
      const int64_t at = mine * channels + first;
      if (aligned) {
        xs[u] = LoadLanes(a.x, at, at + kN, true);
        if constexpr (Op::kInputs == 2) dys[u] = LoadLanes(a.dy, at, at + kN, true);
      } else {
#pragma unroll
        for (int k = 0; k < kN; ++k) {
          if (first + k * step >= channels) continue;
          xs[u].at[k] = a.x[at + k * step];
          if constexpr (Op::kInputs == 2) dys[u].at[k] = a.dy[at + k * step];
        }
      }
      if constexpr (Op::kWalksGroups) {
        if (one_group) factor[u] = a.factors[mine * a.groups + group];
      }
      if (a.valid != nullptr) ok[u] = a.valid[mine] != 0;
    }
    thread.Add([&](int u, int k) { return Widen(xs[u].at[k]); },
               [&](int u, int k) { return Widen(dys[u].at[k]); },
               [&](int u, int k) {
                 if (one_group) return factor[u];
                 const int64_t mine = row + u * layout.down;
                 return mine < end ? a.factors[mine * a.groups + group_of(k)] : W{0};
               },
               ok);
    if (++batches % kFoldEvery == 0) thread.Fold();
  }
  thread.Fold();

  // Two columns of every thread at a time, to keep shared memory small.
  __shared__ double parts[Thread::kValues][2 * kThreads];
  const int cols = 2 * across;
#pragma unroll
  for (int k0 = 0; k0 < kN; k0 += 2) {
#pragma unroll
    for (int v = 0; v < Thread::kValues; ++v) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        parts[v][down * cols + k * across + in_row] = thread.Get(k0 + k, v);
      }
    }
    __syncthreads();
    double values[Thread::kValues];
    Thread::Merge::Run(
        layout.down, cols, [&](int i, int col, int v) { return parts[v][i * cols + col]; }, values);
    const int k = k0 + tid / across;
    const int64_t channel = tile * across * kN + (aligned ? (tid & (across - 1)) * kN + k
                                                          : (tid & (across - 1)) + k * across);
    if (tid < cols && channel < channels) {
      Deliver(op, a.meeting, split, channel, channels, values);
    }
    __syncthreads();
  }
  if (channels == 0 && tid == 0) *op.count = 0;
  if (a.meeting.splits > 1 && IsLast(a.meeting, tile)) {
    MergeParts<typename Thread::Merge, Thread::kValues>(op, a.meeting, tile * across * kN,
                                                        across * kN, channels);
  }
}

// ---- Host -----------------------------------------------------------------

inline Meeting MeetingAt(void* scratch, int splits) {
  auto* const bytes = static_cast<uint8_t*>(scratch);
  return {splits, reinterpret_cast<unsigned*>(bytes),
          reinterpret_cast<double*>(bytes + kTicketBytes)};
}

template <class T, class Op>
cudaError_t LaunchRuns(const ConstSlab& x, const void* dy, const uint8_t* valid, const Op& op,
                       const Launch& on) {
  const RunsLayout layout(x.grid, kLanes<T>, on.multiprocessors);
  const int head = HeadOf<T>(x.data);
  const ReduceArgs<T> args{x.grid,
                           static_cast<const T*>(x.data),
                           static_cast<const T*>(dy),
                           true,
                           HeadOf<T>(dy) == head,
                           valid,
                           nullptr,
                           1,
                           MeetingAt(on.scratch, layout.splits)};
  return Run(on, std::max<int64_t>(layout.tiles * layout.splits, 1), ReduceRuns<T, Op>, args,
             layout, head, op);
}

template <class T, class Op>
cudaError_t LaunchColumns(const ConstSlab& x, const void* dy, const uint8_t* valid,
                          const void* factors, int64_t groups, const Op& op, const Launch& on) {
  const ColumnsLayout layout(x.grid, kLanes<T>, on.multiprocessors);
  const bool aligned = x.grid.channels % kLanes<T> == 0 && HeadOf<T>(x.data) == 0 &&
                       (dy == nullptr || HeadOf<T>(dy) == 0);
  const ReduceArgs<T> args{x.grid,
                           static_cast<const T*>(x.data),
                           static_cast<const T*>(dy),
                           aligned,
                           aligned,
                           valid,
                           static_cast<const Wide<T>*>(factors),
                           groups,
                           MeetingAt(on.scratch, layout.splits)};
  return Run(on, std::max<int64_t>(layout.tiles * layout.splits, 1), ReduceColumns<T, Op>, args,
             layout, op);
}

// One channel is one run, whichever way its positions are written.
inline Grid AsRuns(const Grid& grid) {
  return grid.channels == 1 ? Grid{1, 1, grid.outer * grid.inner} : grid;
}

template <class Op>
cudaError_t LaunchReduce(ConstSlab x, const void* dy, const uint8_t* valid, const Op& op,
                         const Launch& on) {
  x.grid = AsRuns(x.grid);
  return WithElement(x.dtype, [&](auto element) {
    using T = decltype(element);
    if (x.grid.inner == 1) return LaunchColumns<T>(x, dy, valid, nullptr, 1, op, on);
    return LaunchRuns<T>(x, dy, valid, op, on);
  });
}

}  // namespace syncnorm::kernels::cuda
