// Checks of GroupOptions before anything is connected.
#pragma once

#include <syncnorm/group.h>

#include "absl/status/status.h"

namespace syncnorm {

// kInvalidArgument names the option, its value and what is allowed.
absl::Status CheckOptions(const GroupOptions& options);

// This machine's name; "unknown" where it has none.
std::string HostName();

}  // namespace syncnorm
