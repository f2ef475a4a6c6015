// Kernels with one mistake each, for the test that the checks find them.
#include "tests/kernels/cuda/checks.h"

namespace syncnorm::kernels::cuda {
namespace {

__global__ void Race(float* out) {
  __shared__ float shared[64];
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = shared[63 - threadIdx.x];
}

__global__ void ReadUnwritten(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x]; }

__global__ void ReadOutside(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x + 1]; }

}  // namespace

cudaError_t RunRace(float* out) {
  Race<<<1, 64>>>(out);
  return cudaDeviceSynchronize();
}

cudaError_t RunReadUnwritten(const float* in, float* out) {
  ReadUnwritten<<<1, 64>>>(in, out);
  return cudaDeviceSynchronize();
}

cudaError_t RunReadOutside(const float* in, float* out) {
  ReadOutside<<<1, 64>>>(in, out);
  return cudaDeviceSynchronize();
}

}  // namespace syncnorm::kernels::cuda
