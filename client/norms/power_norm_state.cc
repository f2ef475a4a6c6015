// Creation, options and checkpoints of SyncPowerNorm.  The path of a tensor:
// power_norm.cc.
#include <cmath>
#include <utility>
#include <vector>

#include "client/norms/errors.h"
#include "client/norms/power_norm_options.h"
#include "client/norms/power_norm_pending.h"
#include "client/norms/state_map.h"
#include "proto/layer_state.h"

namespace syncnorm {
namespace {

using norms::At;
using norms::Invalid;

}  // namespace

absl::StatusOr<std::unique_ptr<SyncPowerNorm>> SyncPowerNorm::Create(std::string name,
                                                                     PowerNormOptions options,
                                                                     Reducer* group) {
  if (absl::Status ok = norms::CheckPowerNormOptions(name, options); !ok.ok()) return ok;
  std::unique_ptr<SyncPowerNorm> norm(new SyncPowerNorm(std::move(name), options));
  if (group != nullptr) {
    if (absl::Status added = group->AddLayer(norm->name_, norm.get()); !added.ok()) return added;
    norm->group_ = group;  // not before: what was not added is not removed
  }
  return norm;
}

SyncPowerNorm::SyncPowerNorm(std::string name, PowerNormOptions options)
    : name_(std::move(name)),
      options_(options),
      phi_(static_cast<size_t>(options.channels), 1),
      ema_(static_cast<size_t>(options.channels), 0),
      pending_(std::make_unique<Pending>()),
      kept_(std::make_unique<Kept>(options.kept_forwards)) {
  if (!options_.affine) return;
  weight_.assign(static_cast<size_t>(options_.channels), 1);
  bias_.assign(static_cast<size_t>(options_.channels), 0);
}

SyncPowerNorm::~SyncPowerNorm() {
  if (group_ != nullptr) group_->RemoveLayer(name_);
}

absl::StatusOr<std::map<std::string, std::vector<double>>> SyncPowerNorm::State() const {
  if (absl::Status drained = CheckDrained("State()"); !drained.ok()) return drained;
  norms::StateMap state;
  if (options_.affine) {
    state["weight"] = weight_;
    state["bias"] = bias_;
  }
  state["running_phi"] = phi_;
  state["ema_gz"] = ema_;
  state["iters"] = {static_cast<double>(iters_)};
  return state;
}

absl::Status SyncPowerNorm::LoadState(const std::map<std::string, std::vector<double>>& state) {
  if (absl::Status drained = CheckDrained("LoadState()"); !drained.ok()) return drained;
  if (absl::Status ok = CheckState(state, norms::PowerNormEntries(options_)); !ok.ok())
    return At(name_, ok);
  if (options_.affine) {
    weight_ = state.at("weight");
    bias_ = state.at("bias");
  }
  phi_ = state.at("running_phi");
  ema_ = state.at("ema_gz");
  iters_ = static_cast<int64_t>(state.at("iters")[0]);
  return absl::OkStatus();
}

absl::StatusOr<std::string> SyncPowerNorm::Save() {
  if (absl::Status drained = Drain(); !drained.ok()) pending_->untold = drained;
  if (before_save_) {
    if (absl::Status ready = before_save_(); !ready.ok()) return ready;
  }
  const absl::StatusOr<norms::StateMap> state = State();
  if (!state.ok()) return state.status();
  return wire::EncodeLayerState(*state);
}

absl::Status SyncPowerNorm::Load(std::string_view bytes) {
  const absl::StatusOr<norms::StateMap> state = wire::DecodeLayerState(bytes);
  if (!state.ok()) return At(name_, state.status());
  if (absl::Status loaded = LoadState(*state); !loaded.ok()) return loaded;
  if (after_load_) after_load_();
  return absl::OkStatus();
}

// weight() and bias() hand out the vectors themselves.
absl::Status SyncPowerNorm::CheckParameters() const {
  const size_t expected = options_.affine ? static_cast<size_t>(options_.channels) : 0;
  if (weight_.size() != expected) {
    return Invalid(name_, "weight was given ", weight_.size(), " values; it must have ", expected);
  }
  if (bias_.size() != expected) {
    return Invalid(name_, "bias was given ", bias_.size(), " values; it must have ", expected);
  }
  return absl::OkStatus();
}

absl::Status SyncPowerNorm::CheckOwner(const Context& context, double grad_scale) const {
  if (absl::Status owner = norms::CheckOwner(name_, context.layer); !owner.ok()) return owner;
  if (!(grad_scale > 0 && std::isfinite(grad_scale))) {
    return Invalid(name_, "grad_scale is ", grad_scale, "; it must be finite and above 0");
  }
  return absl::OkStatus();
}

}  // namespace syncnorm
