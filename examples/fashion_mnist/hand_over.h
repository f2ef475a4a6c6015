// What a worker that joins a running group needs to go on as the others do,
// beside the states of its layers, which syncnorm brings: the step, the
// parameters, and the optimizer's momenta.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <torch/optim/sgd.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "examples/fashion_mnist/network.h"

namespace syncnorm::examples {

// For Group::AtBoundary.  `step`: the next one.
absl::StatusOr<std::string> HandOver(int64_t step, const Network& network,
                                     const torch::optim::SGD& optimizer);

// Of Group::handed_over(), into a network and an optimizer of the same types; returns the step to
// go on with.  kDataLoss: it is none of HandOver.
absl::StatusOr<int64_t> TakeOver(const std::string& handed_over, Network& network,
                                 torch::optim::SGD& optimizer);

}  // namespace syncnorm::examples
