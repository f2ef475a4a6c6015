// Values of a caller's dtype, as doubles: loads and stores, rounded to nearest even once.
// For arrays of C, which are small: nothing here is vectorised.
//
// Thread-safety: pure functions.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/fold.h"

namespace syncnorm::kernels::cuda {

// `absent` where there are no values.
__device__ inline double ValueOr(const Values& values, int64_t at, double absent) {
  if (values.data == nullptr) return absent;
  switch (values.dtype) {
    case DType::kF32:
      return static_cast<const float*>(values.data)[at];
    case DType::kF64:
      return static_cast<const double*>(values.data)[at];
    case DType::kF16:
      return __half2float(static_cast<const __half*>(values.data)[at]);
    case DType::kBF16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(values.data)[at]);
  }
  return absent;
}

__device__ inline void Store(const Values& values, int64_t at, double value) {
  if (values.data == nullptr) return;
  switch (values.dtype) {
    case DType::kF32:
      static_cast<float*>(values.data)[at] = static_cast<float>(value);
      return;
    case DType::kF64:
      static_cast<double*>(values.data)[at] = value;
      return;
    case DType::kF16:
      static_cast<__half*>(values.data)[at] = __double2half(value);
      return;
    case DType::kBF16:
      static_cast<__nv_bfloat16*>(values.data)[at] = __double2bfloat16(value);
      return;
  }
}

__device__ inline double Wire(double value, bool as_on_wire) {
  return as_on_wire ? static_cast<double>(static_cast<float>(value)) : value;
}

// As client/norms/channels.h.
__device__ inline double InverseRoot(double power, double eps) {
  const double square = power + eps;
  return square == 0 ? 0 : 1 / sqrt(square);
}

// Where folding kernels are launched: a thread a channel.  128: enough blocks to spread the
// double precision, which is slow on some devices, over the multiprocessors.
constexpr int kFoldThreads = 128;
inline unsigned FoldBlocks(int64_t channels) {
  return static_cast<unsigned>((channels + kFoldThreads - 1) / kFoldThreads);
}

// Launches `kernel(argument)`; the launch's own error, and none that was there before.
template <typename Argument>
cudaError_t LaunchFold(void (*kernel)(Argument), const Argument& argument, unsigned blocks,
                       const Launch& on, unsigned threads = kFoldThreads) {
  if (blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.stream = on.stream;
  return cudaLaunchKernelEx(&config, kernel, argument);
}

}  // namespace syncnorm::kernels::cuda
