// Merging: many parts of a sum into one, by a block, in a fixed order.
//
// A part is kValues doubles.  Two kinds:
//   MergeSums       every value is added; the first is a count
//   MergeMoments    (count, mean, m2).  The common mean comes first, as the mean of the parts'
//   deviations
//                   from one of them, and then m2 = sum of m2_i + n_i (mean_i - mean)^2: nothing
//                   cancels, equal means stay exactly what they are, and there is one division per
//                   column where Chan's update has one per part.
//
// Both work on a matrix of parts, `count` rows of `cols` columns (a power of two <= kThreads), and
// merge each column.  Every thread of the block calls them; column j's result is with every thread
// whose index is j modulo cols.
#pragma once

#include <cstdint>

#include "kernels/cuda/layout.h"

namespace syncnorm::kernels::cuda {

// v = sum of v over the threads whose index is equal modulo cols.
template <int kCount>
__device__ inline void SumOverThreads(double (&v)[kCount], int cols) {
  __shared__ double all[kCount][kThreads];
  const int tid = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kCount; ++i) all[i][tid] = v[i];
  __syncthreads();
  for (int half = kThreads / 2; half >= cols; half /= 2) {
    if (tid < half) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) all[i][tid] += all[i][tid + half];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) v[i] = all[i][tid & (cols - 1)];
  __syncthreads();
}

// get(row, col, value) reads one number of a part.
struct MergeSums {
  template <int kValues, class Get>
  __device__ static void Run(int count, int cols, const Get& get, double (&out)[kValues]) {
    const int tid = static_cast<int>(threadIdx.x);
    const int col = tid & (cols - 1);
#pragma unroll
    for (int v = 0; v < kValues; ++v) out[v] = 0;
    for (int i = tid / cols; i < count; i += kThreads / cols) {
#pragma unroll
      for (int v = 0; v < kValues; ++v) out[v] += get(i, col, v);
    }
    SumOverThreads(out, cols);
  }
};

struct MergeMoments {
  template <int kValues, class Get>
  __device__ static void Run(int count, int cols, const Get& get, double (&out)[kValues]) {
    static_assert(kValues == 3);
    const int tid = static_cast<int>(threadIdx.x);
    const int col = tid & (cols - 1);
    const int first = tid / cols, step = kThreads / cols;
    int seen = 0;
    while (seen < count && get(seen, col, 0) == 0) ++seen;
    const double origin = seen < count ? get(seen, col, 1) : 0;
    double sums[2] = {0, 0};
    for (int i = first; i < count; i += step) {
      const double n = get(i, col, 0);
      if (n == 0) continue;
      sums[0] += n;
      sums[1] += n * (get(i, col, 1) - origin);
    }
    SumOverThreads(sums, cols);
    const double mean = sums[0] == 0 ? 0 : origin + sums[1] / sums[0];
    double m2[1] = {0};
    for (int i = first; i < count; i += step) {
      const double n = get(i, col, 0);
      if (n == 0) continue;
      const double delta = get(i, col, 1) - mean;
      m2[0] += get(i, col, 2) + n * delta * delta;
    }
    SumOverThreads(m2, cols);
    out[0] = sums[0];
    out[1] = mean;
    out[2] = m2[0];
  }
};

}  // namespace syncnorm::kernels::cuda
