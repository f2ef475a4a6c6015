// Whether memory that a caller gave is where a layer needs it.
//
// Thread-safety: pure functions.
#pragma once

#include <syncnorm/device.h>

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "kernels/kernels.h"

namespace syncnorm::device {

// OK if `data` is memory of `device`, or managed memory; or if `bytes` is 0.  kInvalidArgument
// calls it `what` and says where it is.
absl::Status CheckOnDevice(std::string_view what, const void* data, int64_t bytes, int device);

// The same of C values; which dtypes they may have is for the caller to say.  Null: fine if
// `optional`.
absl::Status CheckValues(std::string_view what, const DeviceValues& values, int64_t channels,
                         int device, bool optional);

// The same of a running statistic, which must be there: f32 or f64, since half precision would
// lose its increments.
absl::Status CheckStatistic(std::string_view what, const DeviceValues& values, int64_t channels,
                            int device);

// The gradients of weight and bias that a caller wants; null: not wanted.
absl::Status CheckGradients(const DeviceValues& weight, const DeviceValues& bias, int64_t channels,
                            int device);

// A tensor that must be as x, whose grid is `grid` (client/norms/grid.h), and on the device.
absl::Status CheckLikeOnDevice(std::string_view what, const ConstTensor& tensor,
                               const ConstTensor& x, const kernels::Grid& grid, int device);

// From now on the layers on the CPU refuse tensors in device memory, too, with a text instead of a
// crash (client/norms/host_memory.h).
void RefuseDeviceMemoryOnTheHost();

}  // namespace syncnorm::device
