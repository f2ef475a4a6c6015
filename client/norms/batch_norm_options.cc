#include "client/norms/batch_norm_options.h"

#include <cmath>

#include "client/norms/errors.h"

namespace syncnorm::norms {

absl::Status CheckBatchNormOptions(const std::string& name, const BatchNormOptions& options) {
  if (name.empty()) return absl::InvalidArgumentError("a batch norm's name is empty");
  if (options.channels <= 0) {
    return Invalid(name, "channels is ", options.channels, "; it must be 1 or more");
  }
  if (!(options.eps >= 0 && std::isfinite(options.eps))) {
    return Invalid(name, "eps is ", options.eps, "; it must be finite and 0 or more");
  }
  if (options.momentum.has_value() && !(*options.momentum >= 0 && *options.momentum <= 1)) {
    return Invalid(name, "momentum is ", *options.momentum,
                   "; it must be in [0, 1], or none for the cumulative average");
  }
  if (options.kept_forwards < 0) {
    return Invalid(name, "kept_forwards is ", options.kept_forwards, "; it must be 0 or more");
  }
  return absl::OkStatus();
}

std::vector<StateEntry> BatchNormEntries(const BatchNormOptions& options) {
  std::vector<StateEntry> entries;
  if (options.affine) {
    entries.push_back({"weight", options.channels});
    entries.push_back({"bias", options.channels});
  }
  if (options.track_running_stats) {
    entries.push_back({"running_mean", options.channels});
    entries.push_back({"running_var", options.channels});
    entries.push_back({"num_batches_tracked", 1, /*counter=*/true});
  }
  return entries;
}

}  // namespace syncnorm::norms
