// A case's kernels: held against the scalar backend, then timed.
//
// Thread-safety: none; one thread calls it.
#pragma once

#include "bench/gpu/device.h"
#include "bench/gpu/protocol.h"
#include "nlohmann/json.hpp"

namespace syncnorm::bench::gpu {

// The protocol's answer.  Throws CudaError.
nlohmann::json MeasureKernels(const Case& c, const Device& device);

}  // namespace syncnorm::bench::gpu
