// Tokens: work on one run of `size` channels for each token and group, a team of threads each
// (GroupsLayout).
//
// A run's windows are 16 aligned bytes each, as in ReduceRuns: the first and the last may be partly
// outside of the run.
#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"

namespace syncnorm::kernels::cuda {

// The sum of v over the threads of this thread's team: all of a block's threads call it.
// Deterministic, and the same in all threads of the team.
template <class W>
__device__ inline W SumOverTeam(W v, int team) {
  for (int distance = 1; distance < min(team, 32); distance *= 2) {
    v += __shfl_xor_sync(0xffffffffu, v, distance);
  }
  if (team <= 32) return v;
  __shared__ W warps[kThreads / 32];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x % 32 == 0) warps[warp] = v;
  __syncthreads();
  const int first = warp / (team / 32) * (team / 32);
  v = 0;
  for (int i = 0; i < team / 32; ++i) v += warps[first + i];
  __syncthreads();
  return v;
}

// Window `item` of run `run`.
struct Window {
  int64_t at;  // its first element in the tensor
  int64_t i;   // and in the run, -lanes < i
};

template <int kN>
__device__ inline Window WindowOf(int64_t run, int64_t size, int64_t item, int head) {
  const int64_t start = run * size;
  const int before = static_cast<int>((head + start) & (kN - 1));
  const int64_t i = item * kN - before;
  return {start + i, i};
}

}  // namespace syncnorm::kernels::cuda
