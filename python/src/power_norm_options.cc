#include "python/src/power_norm_options.h"

#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"

namespace syncnorm::python {
namespace {

template <typename T>
absl::StatusOr<T> Named(const char* option, const std::string& name,
                        std::initializer_list<std::pair<const char*, T>> values) {
  std::string names;
  for (const auto& [known, value] : values) {
    if (name == known) return value;
    absl::StrAppend(&names, names.empty() ? "" : ", ", known);
  }
  return absl::InvalidArgumentError(
      absl::StrCat(option, " is \"", name, "\", expected one of ", names));
}

}  // namespace

absl::StatusOr<PowerNormOptions> MakePowerNormOptions(
    int64_t channels, double eps, double alpha_fwd, double alpha_bkw, bool affine,
    int64_t warmup_iters, int64_t groups, double group_eps, const std::string& semantics,
    std::optional<bool> masked_backward, const std::string& schedule, int64_t kept_forwards) {
  const auto chosen_semantics = Named("semantics", semantics,
                                      {std::pair("reference", PowerNormSemantics::kReference),
                                       std::pair("paper", PowerNormSemantics::kPaper)});
  if (!chosen_semantics.ok()) return chosen_semantics.status();
  const auto chosen_schedule = Named("schedule", schedule,
                                     {std::pair("deferred", PowerNormSchedule::kDeferred),
                                      std::pair("blocking", PowerNormSchedule::kBlocking)});
  if (!chosen_schedule.ok()) return chosen_schedule.status();
  PowerNormOptions options;
  options.channels = channels;
  options.eps = eps;
  options.alpha_fwd = alpha_fwd;
  options.alpha_bkw = alpha_bkw;
  options.affine = affine;
  options.warmup_iters = warmup_iters;
  options.groups = groups;
  options.group_eps = group_eps;
  options.semantics = *chosen_semantics;
  options.masked_backward = masked_backward;
  options.schedule = *chosen_schedule;
  options.kept_forwards = kept_forwards;
  return options;
}

}  // namespace syncnorm::python
