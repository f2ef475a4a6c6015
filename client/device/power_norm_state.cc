// Creation, tensors and checkpoints of DevicePowerNorm.  The path of a tensor: power_norm.cc.
#include <syncnorm/device_power_norm.h>

#include <string>
#include <utility>
#include <vector>

#include "client/device/kept_blocks.h"
#include "client/device/layer.h"
#include "client/device/pointers.h"
#include "client/device/power_norm_progress.h"
#include "client/device/round_slot.h"
#include "client/device/values.h"
#include "client/device/views.h"
#include "client/norms/errors.h"
#include "client/norms/power_norm_options.h"
#include "kernels/cuda/fold_power.h"
#include "proto/layer_state.h"

namespace syncnorm {

using device::CheckStatistic;
using device::CheckValues;
using device::ValuesOf;

DevicePowerNorm::DevicePowerNorm(std::string name, PowerNormOptions options)
    : name_(std::move(name)),
      options_(options),
      progress_(std::make_shared<Progress>(options.warmup_iters)) {}

absl::StatusOr<std::unique_ptr<DevicePowerNorm>> DevicePowerNorm::Create(
    std::string name, PowerNormOptions options, int device, DevicePowerNormTensors tensors,
    DeviceReducer* reducer) {
  if (absl::Status ok = norms::CheckPowerNormOptions(name, options); !ok.ok()) return ok;
  if (options.kept_forwards > kernels::cuda::kMostRecalled) {
    return norms::Invalid(name, "kept_forwards is ", options.kept_forwards,
                          "; on a device it must be at most ", kernels::cuda::kMostRecalled);
  }
  std::unique_ptr<DevicePowerNorm> norm(new DevicePowerNorm(std::move(name), options));
  auto layer = device::DeviceLayer::Make(norm->name_, device,
                                         reducer == nullptr ? nullptr : reducer->lane());
  if (!layer.ok()) return layer.status();
  norm->layer_ = *std::move(layer);
  norm->kept_ = std::make_unique<device::KeptBlocks>(options.kept_forwards);
  norm->forward_slots_ = std::make_unique<device::RoundSlots>(
      MomentKind::kSums, 1, options.channels,
      [progress = norm->progress_](const absl::StatusOr<Moments>& result) {
        progress->Observe(result);
      });
  norm->backward_slots_ =
      std::make_unique<device::RoundSlots>(MomentKind::kSums, 2, options.channels);
  if (absl::Status set = norm->set_tensors(tensors); !set.ok()) return set;
  if (reducer != nullptr) {
    if (absl::Status added = reducer->AddLayer(norm->name_, norm.get()); !added.ok()) return added;
    norm->group_ = reducer;
  }
  return norm;
}

DevicePowerNorm::~DevicePowerNorm() {
  if (group_ == nullptr) return;
  if (!device::CheckNotForked().ok()) return;  // its rounds are the parent's
  forward_slots_->AwaitPublished();
  backward_slots_->AwaitPublished();
  group_->RemoveLayer(name_);
}

absl::Status DevicePowerNorm::set_tensors(const DevicePowerNormTensors& tensors) {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const int64_t channels = options_.channels;
  const int device = layer_->device();
  if (absl::Status drained = CheckDrained("other tensors are set"); !drained.ok()) {
    return layer_->Named(drained);
  }
  std::vector<absl::Status> checks = {
      CheckStatistic("running_phi", tensors.running_phi, channels, device),
      CheckStatistic("ema_gz", tensors.ema_gz, channels, device),
      device::CheckOnDevice("iters", tensors.iters, sizeof(int64_t), device),
      CheckParameters(tensors.weight, tensors.bias)};
  if (absl::Status first = layer_->FirstError(checks); !first.ok()) return first;
  tensors_ = tensors;
  if (!options_.affine) tensors_.weight = tensors_.bias = {};
  return ReadIters();
}

absl::Status DevicePowerNorm::set_parameters(const DeviceValues& weight, const DeviceValues& bias) {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  if (!options_.affine) return absl::OkStatus();
  if (absl::Status ok = CheckParameters(weight, bias); !ok.ok()) return layer_->Named(ok);
  tensors_.weight = weight;
  tensors_.bias = bias;
  return absl::OkStatus();
}

absl::Status DevicePowerNorm::CheckParameters(const DeviceValues& weight,
                                              const DeviceValues& bias) const {
  if (!options_.affine) return absl::OkStatus();
  const int device = layer_->device();
  if (absl::Status ok = CheckValues("weight", weight, options_.channels, device, false); !ok.ok()) {
    return ok;
  }
  return CheckValues("bias", bias, options_.channels, device, false);
}

absl::Status DevicePowerNorm::ReadIters() {
  const device::DeviceScope scope(layer_->device());
  int64_t iters = 0;
  if (absl::Status read = device::Read(tensors_.iters, last_stream_, &iters); !read.ok()) {
    return layer_->Named(read);
  }
  progress_->iters.store(iters, std::memory_order_release);
  return absl::OkStatus();
}

kernels::cuda::PowerLayer DevicePowerNorm::Layer() const {
  return {.channels = options_.channels,
          .eps = options_.eps,
          .alpha_fwd = options_.alpha_fwd,
          .alpha_bkw = options_.alpha_bkw,
          .warmup_iters = options_.warmup_iters,
          .paper = options_.semantics == PowerNormSemantics::kPaper,
          .masked_backward = masked_backward(),
          .weight = ValuesOf(tensors_.weight),
          .bias = ValuesOf(tensors_.bias),
          .phi = ValuesOf(tensors_.running_phi),
          .ema = ValuesOf(tensors_.ema_gz),
          .iters = tensors_.iters};
}

absl::Status DevicePowerNorm::Check() {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  return layer_->TakeFailure();
}

absl::StatusOr<std::string> DevicePowerNorm::Save() {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  if (absl::Status drained = Drain(last_stream_); !drained.ok()) return drained;
  norms::StateMap state;
  int64_t iters = 0;
  std::vector<absl::Status> reads;
  const auto read = [&](const char* name, const DeviceValues& values) {
    reads.push_back(device::Read(values, options_.channels, last_stream_, &state[name]));
  };
  if (options_.affine) {
    read("weight", tensors_.weight);
    read("bias", tensors_.bias);
  }
  read("running_phi", tensors_.running_phi);
  read("ema_gz", tensors_.ema_gz);
  reads.push_back(device::Read(tensors_.iters, last_stream_, &iters));
  if (absl::Status first = layer_->FirstError(reads); !first.ok()) return first;
  state["iters"] = {static_cast<double>(iters)};
  return wire::EncodeLayerState(state);
}

absl::Status DevicePowerNorm::Load(std::string_view bytes) {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  if (absl::Status drained = CheckDrained("Load()"); !drained.ok()) return layer_->Named(drained);
  absl::StatusOr<norms::StateMap> state = wire::DecodeLayerState(bytes);
  if (!state.ok()) return layer_->Named(state.status());
  if (absl::Status ok = CheckState(*state, norms::PowerNormEntries(options_)); !ok.ok()) {
    return layer_->Named(ok);
  }
  std::vector<absl::Status> writes;
  if (options_.affine) {
    writes.push_back(device::Write(state->at("weight"), last_stream_, tensors_.weight));
    writes.push_back(device::Write(state->at("bias"), last_stream_, tensors_.bias));
  }
  writes.push_back(device::Write(state->at("running_phi"), last_stream_, tensors_.running_phi));
  writes.push_back(device::Write(state->at("ema_gz"), last_stream_, tensors_.ema_gz));
  writes.push_back(
      device::Write(static_cast<int64_t>(state->at("iters")[0]), last_stream_, tensors_.iters));
  if (absl::Status first = layer_->FirstError(writes); !first.ok()) return first;
  return ReadIters();
}

}  // namespace syncnorm
