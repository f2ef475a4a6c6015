// Maps: y = f(x), or dx = f(x, dy), element by element with parameters per channel.
//
// The tensor is one sequence of 16-byte items whatever its shape (MapLayout): every access is of
// 128 bits where the tensors' addresses allow it.  A thread stays in its channels, so that it reads
// and narrows their parameters, which are double, once.
//
// An Op has
//   kInputs           1 or 2 (x and dy)
//   kWalksGroups      its grid is {tokens, groups, size} and Map takes the group's factor
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

// Walks consecutive elements of a grid without dividing.
struct Walk {
  int64_t channels, inner;
  int64_t o, c, i;

  __device__ Walk(const Grid& grid, int64_t element) : channels(grid.channels), inner(grid.inner) {
    const int64_t row = channels * inner;
    o = element >= 0 ? element / row : -((row - 1 - element) / row);
    const int64_t in_row = element - o * row;
    c = in_row / inner;
    i = in_row - c * inner;
  }
  __device__ void Next() {
    if (++i < inner) return;
    i = 0;
    if (++c < channels) return;
    c = 0;
    ++o;
  }
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
__global__ void __launch_bounds__(kThreads) MapKernel(MapArgs<T> a, Op op) {
  using W = Wide<T>;
  constexpr int kN = kLanes<T>;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (item >= a.items) return;
  const int64_t row = a.grid.channels * a.grid.inner;
  const int64_t elements = a.grid.outer * row;

  const Walk start(a.grid, item * kN - a.head);
  typename Op::template Params<W> params[kN];
  Walk walk = start;
#pragma unroll
  for (int k = 0; k < kN; ++k) {
    // With groups, channels are c * inner + i; otherwise neighbours mostly share one.
    if (Op::kWalksGroups) {
      params[k] = op.template At<W>(walk.c * walk.inner + walk.i);
    } else if (k == 0 || walk.i == 0) {
      params[k] = op.template At<W>(walk.c);
    } else {
      params[k] = params[k - 1];
    }
    walk.Next();
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
      Lanes<T> out;
      walk = start;
      walk.o += (lap * kMapUnroll + u) * rows;
#pragma unroll
      for (int k = 0; k < kN; ++k) {
        bool ok = true;
        W factor = 0;
        if constexpr (kMasked || Op::kWalksGroups) {
          const bool inside = at + k >= 0 && at + k < elements;
          if constexpr (kMasked) ok = inside && a.valid[walk.o * walk.inner + walk.i] != 0;
          if constexpr (Op::kWalksGroups) {
            if (inside) factor = a.factors[walk.o * walk.channels + walk.c];
          }
          walk.Next();
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
  if (valid != nullptr) return Run(on, layout.blocks, MapKernel<true, T, Op>, args, op);
  return Run(on, layout.blocks, MapKernel<false, T, Op>, args, op);
}

}  // namespace syncnorm::kernels::cuda
