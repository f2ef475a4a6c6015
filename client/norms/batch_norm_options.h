// What the batch norms of every place share: the checks of their options, and what their state is.
//
// Errors are kInvalidArgument and name the layer, the option and its value.
//
// Thread-safety: pure functions.
#pragma once

#include <syncnorm/batch_norm.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/norms/state_map.h"

namespace syncnorm::norms {

absl::Status CheckBatchNormOptions(const std::string& layer, const BatchNormOptions& options);

// The entries of State(), under PyTorch's names.
std::vector<StateEntry> BatchNormEntries(const BatchNormOptions& options);

}  // namespace syncnorm::norms
