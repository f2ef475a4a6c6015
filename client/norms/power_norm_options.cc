#include "client/norms/power_norm_options.h"

#include <cmath>

#include "client/norms/errors.h"

namespace syncnorm::norms {

absl::Status CheckPowerNormOptions(const std::string& name, const PowerNormOptions& options) {
  if (name.empty()) return absl::InvalidArgumentError("a power norm's name is empty");
  if (options.channels <= 0) {
    return Invalid(name, "channels is ", options.channels, "; it must be 1 or more");
  }
  if (options.groups <= 0 || options.channels % options.groups != 0) {
    return Invalid(name, "groups is ", options.groups, "; it must divide channels, which is ",
                   options.channels);
  }
  if (!(options.eps >= 0 && std::isfinite(options.eps))) {
    return Invalid(name, "eps is ", options.eps, "; it must be finite and 0 or more");
  }
  if (!(options.group_eps > 0 && std::isfinite(options.group_eps))) {
    return Invalid(name, "group_eps is ", options.group_eps, "; it must be finite and above 0");
  }
  if (!(options.alpha_fwd >= 0 && options.alpha_fwd < 1)) {
    return Invalid(name, "alpha_fwd is ", options.alpha_fwd, "; it must be in [0, 1)");
  }
  if (!(options.alpha_bkw >= 0 && options.alpha_bkw < 1)) {
    return Invalid(name, "alpha_bkw is ", options.alpha_bkw, "; it must be in [0, 1)");
  }
  if (options.warmup_iters < 0) {
    return Invalid(name, "warmup_iters is ", options.warmup_iters, "; it must be 0 or more");
  }
  if (options.semantics != PowerNormSemantics::kReference &&
      options.semantics != PowerNormSemantics::kPaper) {
    return Invalid(name, "semantics is ", static_cast<int>(options.semantics),
                   "; it must be kReference (1) or kPaper (2)");
  }
  if (options.schedule != PowerNormSchedule::kDeferred &&
      options.schedule != PowerNormSchedule::kBlocking) {
    return Invalid(name, "schedule is ", static_cast<int>(options.schedule),
                   "; it must be kDeferred (1) or kBlocking (2)");
  }
  if (options.kept_forwards < 0) {
    return Invalid(name, "kept_forwards is ", options.kept_forwards, "; it must be 0 or more");
  }
  return absl::OkStatus();
}

std::vector<StateEntry> PowerNormEntries(const PowerNormOptions& options) {
  std::vector<StateEntry> entries;
  if (options.affine) {
    entries.push_back({"weight", options.channels});
    entries.push_back({"bias", options.channels});
  }
  entries.push_back({"running_phi", options.channels});
  entries.push_back({"ema_gz", options.channels});
  entries.push_back({"iters", 1, /*counter=*/true});
  return entries;
}

}  // namespace syncnorm::norms
