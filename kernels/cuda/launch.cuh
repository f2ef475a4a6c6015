// Launching: one way for all operations.
//
// Returns what launching failed with, or an error that an earlier operation left behind on the
// device; it neither clears nor hides any.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/layout.h"

namespace syncnorm::kernels::cuda {

// Runs kernel(args...) in `blocks` blocks of kThreads; none is legal.
template <class... Params, class... Args>
cudaError_t Run(const Launch& on, int64_t blocks, void (*kernel)(Params...), const Args&... args) {
  if (blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = on.stream;
  return cudaLaunchKernelEx(&config, kernel, Params(args)...);
}

}  // namespace syncnorm::kernels::cuda
