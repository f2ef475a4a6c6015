// A layer's arrays, between the device and the host: for checkpoints and hand-over.  Every call
// is ordered on `stream` and waits for it, and for nothing else on the device: other members of the
// process may be waiting for this one.
//
// Thread-safety: pure functions.
#pragma once

#include <cuda_runtime_api.h>
#include <syncnorm/device.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace syncnorm::device {

// Of the device that is current.
absl::Status Read(const DeviceValues& from, int64_t size, cudaStream_t stream,
                  std::vector<double>* to);
absl::Status Read(const int64_t* from, cudaStream_t stream, int64_t* to);
// Rounds to the dtype, to nearest even.
absl::Status Write(const std::vector<double>& from, cudaStream_t stream, const DeviceValues& to);
absl::Status Write(int64_t from, cudaStream_t stream, int64_t* to);

}  // namespace syncnorm::device
