// The CUDA kernels as the backend under test, on a device or its simulator; which, is printed.
// In turns as if the device had one multiprocessor, so that no sum is split, a few, and 132, as an
// H100 has, so that all but small ones are.
#include <cuda_runtime.h>

#include <cstdio>

#include "tests/kernels/cuda/device.h"
#include "tests/kernels/cuda/host_kernels.h"
#include "tests/kernels/support.h"

namespace syncnorm::kernels {
std::vector<Backend> Backends() {
  static const std::vector<Backend> all = [] {
    cudaDeviceProp device;
    cuda::Check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
    std::printf("device: %s\n", device.name);
    const std::shared_ptr<Kernels> kernels = cuda::OnHostMemory({1, 132, 5});
    return std::vector<Backend>{
        Backend("cuda", [kernels](const Backend::Body& body) { body(*kernels); })};
  }();
  return all;
}

}  // namespace syncnorm::kernels
