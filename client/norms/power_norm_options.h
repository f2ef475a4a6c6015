// What the power norms of every place share: the checks of their options, and what their state is.
//
// Errors are kInvalidArgument and name the layer, the option and its value.
//
// Thread-safety: pure functions.
#pragma once

#include <syncnorm/power_norm.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/norms/state_map.h"

namespace syncnorm::norms {

absl::Status CheckPowerNormOptions(const std::string& layer, const PowerNormOptions& options);

// The entries of State(), under the authors' names.
std::vector<StateEntry> PowerNormEntries(const PowerNormOptions& options);

}  // namespace syncnorm::norms
