// Kernels with one mistake each, on 64 floats: each returns how running it ended.
#pragma once

#include <cuda_runtime_api.h>

namespace syncnorm::kernels::cuda {

cudaError_t RunRace(float* out);
cudaError_t RunReadUnwritten(const float* in, float* out);
cudaError_t RunReadOutside(const float* in, float* out);

}  // namespace syncnorm::kernels::cuda
