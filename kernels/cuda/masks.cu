// Masks as callers have them, made into `valid`, with the first position that is neither 0 nor 1.
#include "kernels/cuda/launch.cuh"

namespace syncnorm::kernels::cuda {
namespace {

// *bad = the smaller of it and `position`; 0 is the largest.
__device__ void Lower(uint64_t* bad, uint64_t position) {
  auto* const at = reinterpret_cast<unsigned long long*>(bad);
  unsigned long long now = *at;
  while (now == 0 || position < now) {
    const unsigned long long before = atomicCAS(at, now, position);
    if (before == now) return;
    now = before;
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreads)
    ValidKernel(const Element* mask, int64_t positions, uint8_t* valid, uint64_t* bad) {
  uint64_t first = 0;
  for (int64_t p = int64_t{blockIdx.x} * kThreads + threadIdx.x; p < positions;
       p += int64_t{gridDim.x} * kThreads) {
    const Element value = mask[p];
    const bool one = value == Element{1};
    valid[p] = one;
    if (!one && !(value == Element{0}) && first == 0) first = static_cast<uint64_t>(p) + 1;
  }
  if (first != 0) Lower(bad, first);
}

__global__ void __launch_bounds__(kThreads)
    ValidTokensKernel(const uint8_t* pad_mask, int64_t times, int64_t samples, uint8_t* valid,
                      uint64_t* bad) {
  uint64_t first = 0;
  for (int64_t p = int64_t{blockIdx.x} * kThreads + threadIdx.x; p < times * samples;
       p += int64_t{gridDim.x} * kThreads) {
    const int64_t t = p / samples;
    const int64_t from = (p - t * samples) * times + t;
    const uint8_t value = pad_mask[from];
    valid[p] = value == 0;
    const uint64_t position = static_cast<uint64_t>(from) + 1;
    if (value > 1 && (first == 0 || position < first)) first = position;
  }
  if (first != 0) Lower(bad, first);
}

int64_t BlocksFor(int64_t positions, const Launch& on) {
  return std::min(DivideUp(positions, kThreads), BlocksWanted(on.multiprocessors));
}

}  // namespace

cudaError_t ValidFromBytes(const uint8_t* mask, int64_t positions, uint8_t* valid, uint64_t* bad,
                           const Launch& on) {
  return Run(on, BlocksFor(positions, on), ValidKernel<uint8_t>, mask, positions, valid, bad);
}

cudaError_t ValidFromFloats(const float* mask, int64_t positions, uint8_t* valid, uint64_t* bad,
                            const Launch& on) {
  return Run(on, BlocksFor(positions, on), ValidKernel<float>, mask, positions, valid, bad);
}

cudaError_t ValidTokens(const uint8_t* pad_mask, int64_t times, int64_t samples, uint8_t* valid,
                        uint64_t* bad, const Launch& on) {
  return Run(on, BlocksFor(times * samples, on), ValidTokensKernel, pad_mask, times, samples, valid,
             bad);
}

}  // namespace syncnorm::kernels::cuda
