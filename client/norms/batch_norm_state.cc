// Creation, options and checkpoints of SyncBatchNorm.  The path of a tensor:
// batch_norm.cc.
#include <syncnorm/batch_norm.h>

#include <utility>
#include <vector>

#include "client/norms/batch_norm_kept.h"
#include "client/norms/batch_norm_options.h"
#include "client/norms/errors.h"
#include "client/norms/state_map.h"
#include "proto/layer_state.h"

namespace syncnorm {
namespace {

using norms::At;
using norms::Invalid;

}  // namespace

absl::StatusOr<std::unique_ptr<SyncBatchNorm>> SyncBatchNorm::Create(std::string name,
                                                                     BatchNormOptions options,
                                                                     Reducer* group) {
  if (absl::Status ok = norms::CheckBatchNormOptions(name, options); !ok.ok()) return ok;
  std::unique_ptr<SyncBatchNorm> norm(new SyncBatchNorm(std::move(name), options));
  if (group != nullptr) {
    if (absl::Status added = group->AddLayer(norm->name_, norm.get()); !added.ok()) return added;
    norm->group_ = group;  // not before: what was not added is not removed
  }
  return norm;
}

SyncBatchNorm::SyncBatchNorm(std::string name, BatchNormOptions options)
    : name_(std::move(name)),
      options_(options),
      kept_(std::make_unique<Kept>(options.kept_forwards)) {
  const size_t channels = static_cast<size_t>(options_.channels);
  if (options_.affine) {
    weight_.assign(channels, 1);
    bias_.assign(channels, 0);
  }
  if (options_.track_running_stats) {
    running_mean_.assign(channels, 0);
    running_var_.assign(channels, 1);
  }
}

absl::Status SyncBatchNorm::SetEpsAndMomentum(double eps, std::optional<double> momentum) {
  if (eps == options_.eps && momentum == options_.momentum) return absl::OkStatus();
  BatchNormOptions changed = options_;
  changed.eps = eps;
  changed.momentum = momentum;
  if (absl::Status ok = norms::CheckBatchNormOptions(name_, changed); !ok.ok()) return ok;
  options_ = changed;
  return absl::OkStatus();
}

SyncBatchNorm::~SyncBatchNorm() {
  if (group_ != nullptr) group_->RemoveLayer(name_);
}

std::map<std::string, std::vector<double>> SyncBatchNorm::State() const {
  norms::StateMap state;
  if (options_.affine) {
    state["weight"] = weight_;
    state["bias"] = bias_;
  }
  if (options_.track_running_stats) {
    state["running_mean"] = running_mean_;
    state["running_var"] = running_var_;
    state["num_batches_tracked"] = {static_cast<double>(num_batches_tracked_)};
  }
  return state;
}

absl::Status SyncBatchNorm::LoadState(const std::map<std::string, std::vector<double>>& state) {
  if (absl::Status ok = CheckState(state, norms::BatchNormEntries(options_)); !ok.ok())
    return At(name_, ok);
  if (options_.affine) {
    weight_ = state.at("weight");
    bias_ = state.at("bias");
  }
  if (options_.track_running_stats) {
    running_mean_ = state.at("running_mean");
    running_var_ = state.at("running_var");
    num_batches_tracked_ = static_cast<int64_t>(state.at("num_batches_tracked")[0]);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SyncBatchNorm::Save() {
  if (before_save_) {
    if (absl::Status ready = before_save_(); !ready.ok()) return ready;
  }
  norms::StateMap state = State();
  state["steps"] = {static_cast<double>(steps_)};
  return wire::EncodeLayerState(state);
}

absl::Status SyncBatchNorm::Load(std::string_view bytes) {
  absl::StatusOr<norms::StateMap> state = wire::DecodeLayerState(bytes);
  if (!state.ok()) return At(name_, state.status());
  uint64_t steps = 0;
  if (absl::Status taken = norms::TakeCounter("steps", &*state, &steps); !taken.ok()) {
    return At(name_, taken);
  }
  if (absl::Status loaded = LoadState(*state); !loaded.ok()) return loaded;
  steps_ = steps;
  if (after_load_) after_load_();
  return absl::OkStatus();
}

// weight() and the like hand out the vectors themselves.
absl::Status SyncBatchNorm::CheckParameters() const {
  const struct {
    const char* name;
    const std::vector<double>& values;
    bool present;
  } parameters[] = {{"weight", weight_, options_.affine},
                    {"bias", bias_, options_.affine},
                    {"running_mean", running_mean_, options_.track_running_stats},
                    {"running_var", running_var_, options_.track_running_stats}};
  for (const auto& [name, values, present] : parameters) {
    const size_t expected = present ? static_cast<size_t>(options_.channels) : 0;
    if (values.size() == expected) continue;
    return Invalid(name_, name, " was given ", values.size(), " values; it must have ", expected);
  }
  return absl::OkStatus();
}

}  // namespace syncnorm
