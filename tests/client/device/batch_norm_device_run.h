// A batch norm's training on devices, with the data and the judge of the CPU's
// (tests/client/norms/batch_norm_run.h).
#pragma once

#include <syncnorm/device_batch_norm.h>

#include <vector>

#include "tests/client/norms/batch_norm_run.h"
#include "tests/support/members.h"

namespace syncnorm::testing {

// How the members of a group train.
struct DeviceTraining {
  StreamWaiting waiting = StreamWaiting::kBest;
  DType parameters = DType::kF64;
  // Members of these ranks train on the CPU.
  std::vector<int> on_the_host = {};
  // The CPU waits for the device after every call; otherwise only after each step's last one.
  bool synchronous = false;
};

// results[step][rank].  Each member has a stream of its own.
std::vector<std::vector<BatchNormResult>> TrainOnDevice(const Members& members,
                                                        const BatchNormOptions& options,
                                                        DType dtype, Layout layout,
                                                        const std::vector<BatchNormStep>& steps,
                                                        const DeviceTraining& training = {});

}  // namespace syncnorm::testing
