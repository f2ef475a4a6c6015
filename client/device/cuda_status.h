// What CUDA says, as a Status.
//
//   kResourceExhausted   the device, or pinned memory, has no room left
//   kUnavailable         no device, no driver, or one that is too old
//   kInternal            anything else.  CUDA reports what an earlier, asynchronous operation of
//                        the process did wrong from whichever call comes next, so the text says
//                        where it was noticed, not whose fault it was.
//
// Thread-safety: pure functions.
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "absl/status/status.h"

namespace syncnorm::device {

// An error is told here, and not once more by the caller's next cudaGetLastError().
//
// OK for cudaSuccess; otherwise "`what`: CUDA says: ... (cudaErrorX)".
absl::Status CudaStatus(cudaError_t error, std::string_view what);

}  // namespace syncnorm::device
