// SyncPowerNorm's options as Python gives them, for both modules.
//
// Thread-safety: pure functions.
#pragma once

#include <syncnorm/power_norm.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace syncnorm::python {

// kInvalidArgument: `semantics` is not "reference" or "paper", or `schedule` not "deferred" or
// "blocking".
absl::StatusOr<PowerNormOptions> MakePowerNormOptions(
    int64_t channels, double eps, double alpha_fwd, double alpha_bkw, bool affine,
    int64_t warmup_iters, int64_t groups, double group_eps, const std::string& semantics,
    std::optional<bool> masked_backward, const std::string& schedule, int64_t kept_forwards);

}  // namespace syncnorm::python
