// The CUDA kernels as the backends under test, on a device or its simulator; which, is
// printed.  As if the device had one multiprocessor, so that no sum is split, and as if it had 132,
// as an H100 has, so that large ones are.
#include <cuda_runtime.h>

#include <cstdio>

#include "tests/kernels/cuda/device.h"
#include "tests/kernels/cuda/host_kernels.h"
#include "tests/kernels/support.h"

namespace syncnorm::kernels {
namespace {

Backend WithMultiprocessors(int count) {
  const std::shared_ptr<Kernels> kernels = cuda::OnHostMemory(count);
  return Backend("cuda, multiprocessors " + std::to_string(count),
                 [kernels](const Backend::Body& body) { body(*kernels); });
}

}  // namespace

std::vector<Backend> Backends() {
  static const std::vector<Backend> all = [] {
    cudaDeviceProp device;
    cuda::Check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
    std::printf("device: %s\n", device.name);
    return std::vector<Backend>{WithMultiprocessors(1), WithMultiprocessors(132)};
  }();
  return all;
}

}  // namespace syncnorm::kernels
