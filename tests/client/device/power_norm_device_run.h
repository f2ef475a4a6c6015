// A PowerNorm's training on devices, with the data and the judge of the CPU's
// (tests/client/norms/power_norm_run.h).
#pragma once

#include <syncnorm/device_power_norm.h>

#include <vector>

#include "tests/client/device/batch_norm_device_run.h"
#include "tests/client/norms/power_norm_run.h"
#include "tests/support/members.h"

namespace syncnorm::testing {

// Each member has a stream of its own.  Where `free_running`, nothing waits for the device before
// the last step; otherwise each step's end does.
PowerNormTraining TrainOnDevice(const Members& members, const PowerNormOptions& options,
                                DType dtype, const std::vector<PowerNormStep>& steps,
                                const DeviceTraining& training = {}, bool free_running = false);

}  // namespace syncnorm::testing
