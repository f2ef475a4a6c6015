// Maps: y = f(x), or dx = f(x, dy), element by element with parameters per channel.
//
// The tensor is one sequence of 16-byte items whatever its shape (MapLayout): every access is of
// 128 bits where the tensors' addresses allow it.  A thread stays in its channels, so that it reads
// and narrows their parameters, which are double, once.
//
// An Op has
//   kInputs           1 or 2 (x and dy)
//   kWalksGroups      its grid is {tokens, groups, size} and Map takes the group's factor; such
//   maps
//                     have no masks
//   Params<W> At<W>(int64_t channel)     one channel's parameters, narrowed
//   W Map(Params<W>, x, dy, factor)
//
// In place: an item is read whole before it is written, by the same thread, and by no other.
#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"

namespace syncnorm::kernels::cuda {

// Loads of each input that a thread has under way.
constexpr int kMapUnroll = 2;

// Walks the elements of one item, without dividing: where the first one lies is found once.
// Distances are counted as far as an item reaches only, so that they are 32 bits.
class Walk {
 public:
  // Grid element `element` >= -lanes.
  __device__ Walk(const Grid& grid, int64_t element, int lanes) : inner_(grid.inner) {
    const int64_t row = grid.channels * inner_;
    const int64_t o = element >= 0 ? element / row : -((row - 1 - element) / row);
    const int64_t in_row = element - o * row;
    channel_ = in_row / inner_;
    const int64_t i = in_row - channel_ * inner_;
    position_ = o * inner_ + i;
    run_ = o * grid.channels + channel_;
    of_run_ = static_cast<int>(min(inner_, int64_t{lanes}));
    of_row_ = static_cast<int>(min(grid.channels, int64_t{lanes}));
    left_of_run_ = static_cast<int>(min(inner_ - i, int64_t{lanes}));
    left_of_row_ = static_cast<int>(min(grid.channels - channel_, int64_t{lanes}));
    channels_ = grid.channels;
  }

  __device__ int64_t channel() const { return channel_; }
  // o * inner + i, and o * channels + c.
  __device__ int64_t position() const { return position_; }
  __device__ int64_t run() const { return run_; }

  // True where a new run begins.
  __device__ bool Next() {
    ++position_;
    if (--left_of_run_ > 0) return false;
    left_of_run_ = of_run_;
    position_ -= inner_;
    ++run_;
    ++channel_;
    if (--left_of_row_ == 0) {
      left_of_row_ = of_row_;
      position_ += inner_;
      channel_ -= channels_;
    }
    return true;
  }

  // The same place `rows` rows further on.
  __device__ void Skip(int64_t rows) {
    position_ += rows * inner_;
    run_ += rows * channels_;
  }

 private:
  int64_t inner_, channels_;
  int64_t channel_, position_, run_;
  int of_run_, of_row_;
  int left_of_run_, left_of_row_;
};

template <class T>
struct MapArgs {
  Grid grid;
  int64_t items;
  int head;
  bool aligned;
  const T* x;
  const T* dy;
  const uint8_t* valid;
  const Wide<T>* factors;
  T* y;
};

template <bool kMasked, class T, class Op>
__global__ void __launch_bounds__(kThreads, 1) MapKernel(MapArgs<T> a, Op op) {
  using W = Wide<T>;
  constexpr int kN = kLanes<T>;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= a.items) return;
  const int64_t row = a.grid.channels * a.grid.inner;
  const int64_t elements = a.grid.outer * row;

  const Walk start(a.grid, item * kN - a.head, kN);
  typename Op::template Params<W> params[kN];
  {
    Walk walk = start;
    // With groups, the grid's runs are groups and its positions in a row channels.
    const int64_t o = Op::kWalksGroups ? (start.run() - start.channel()) / a.grid.channels : 0;
    int64_t channel = Op::kWalksGroups
                          ? start.channel() * a.grid.inner + start.position() - o * a.grid.inner
                          : start.channel();
#pragma unroll
    for (int k = 0; k < kN; ++k) {
      // Neighbours mostly share a channel.
      if (k == 0 || Op::kWalksGroups || channel != walk.channel()) {
        if (!Op::kWalksGroups) channel = walk.channel();
        params[k] = op.template At<W>(channel);
      } else {
        params[k] = params[k - 1];
      }
      walk.Next();
      if (Op::kWalksGroups && ++channel == row) channel = 0;
    }
  }
  // A stride is whole rows, or there is one lap only.
  const int64_t rows = stride * kN / row;

  for (int64_t lap = 0; item < a.items; ++lap) {
    Lanes<T> xs[kMapUnroll], dys[kMapUnroll];
#pragma unroll
    for (int u = 0; u < kMapUnroll; ++u) {
      const int64_t mine = item + u * stride;
      if (mine >= a.items) continue;
      xs[u] = LoadLanes(a.x, mine * kN - a.head, elements, a.aligned);
      if constexpr (Op::kInputs == 2) {
        dys[u] = LoadLanes(a.dy, mine * kN - a.head, elements, a.aligned);
      }
    }
#pragma unroll
    for (int u = 0; u < kMapUnroll; ++u) {
      const int64_t mine = item + u * stride;
      if (mine >= a.items) continue;
      const int64_t at = mine * kN - a.head;
      const int first = at < 0 ? static_cast<int>(-at) : 0;
      const int end = static_cast<int>(min(int64_t{kN}, elements - at));
      Lanes<T> out;
      Walk walk = start;
      walk.Skip((lap * kMapUnroll + u) * rows);
      W factor = 0;
      [[maybe_unused]] bool new_run = false;
#pragma unroll
      for (int k = 0; k < kN; ++k) {
        bool ok = true;
        if constexpr (kMasked) {
          ok = k >= first && k < end && a.valid[walk.position()] != 0;
          walk.Next();
        }
        if constexpr (Op::kWalksGroups) {
          if (k >= first && k < end && (k == first || new_run)) factor = a.factors[walk.run()];
          new_run = walk.Next();
        }
        const W x = Widen(xs[u].at[k]);
        const W dy = Op::kInputs == 2 ? Widen(dys[u].at[k]) : W{0};
        const W y = op.Map(params[k], x, dy, factor);
        Narrow(ok ? y : W{0}, &out.at[k]);
      }
      StoreLanes(out, a.y, at, elements, a.aligned);
    }
    item += kMapUnroll * stride;
  }
}

// dy is null where Op has one input, factors where it walks no groups.
template <class T, class Op>
cudaError_t LaunchMap(const Grid& grid, const void* x, const void* dy, const uint8_t* valid,
                      const void* factors, void* y, const Op& op, const Launch& on) {
  const int head = HeadOf<T>(x);
  const bool aligned = HeadOf<T>(y) == head && (dy == nullptr || HeadOf<T>(dy) == head);
  const MapLayout layout(grid, kLanes<T>, aligned ? head : 0, on.multiprocessors);
  const MapArgs<T> args{grid,
                        layout.items,
                        aligned ? head : 0,
                        aligned,
                        static_cast<const T*>(x),
                        static_cast<const T*>(dy),
                        valid,
                        static_cast<const Wide<T>*>(factors),
                        static_cast<T*>(y)};
  if constexpr (!Op::kWalksGroups) {
    if (valid != nullptr) return Run(on, layout.blocks, MapKernel<true, T, Op>, args, op);
  }
  return Run(on, layout.blocks, MapKernel<false, T, Op>, args, op);
}

}  // namespace syncnorm::kernels::cuda
