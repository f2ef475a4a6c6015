// Creation, tensors and checkpoints of DeviceBatchNorm.  The path of a tensor: batch_norm.cc.
#include <syncnorm/device_batch_norm.h>

#include <string>
#include <utility>
#include <vector>

#include "client/device/kept_blocks.h"
#include "client/device/layer.h"
#include "client/device/pointers.h"
#include "client/device/round_slot.h"
#include "client/device/values.h"
#include "client/norms/batch_norm_options.h"
#include "client/norms/errors.h"
#include "proto/layer_state.h"

namespace syncnorm {
namespace {

using device::CheckStatistic;
using device::CheckValues;
using norms::Invalid;

}  // namespace

DeviceBatchNorm::DeviceBatchNorm(std::string name, BatchNormOptions options)
    : name_(std::move(name)), options_(options) {}

absl::StatusOr<std::unique_ptr<DeviceBatchNorm>> DeviceBatchNorm::Create(
    std::string name, BatchNormOptions options, int device, DeviceBatchNormTensors tensors,
    DeviceReducer* reducer) {
  if (absl::Status ok = norms::CheckBatchNormOptions(name, options); !ok.ok()) return ok;
  if (options.kept_forwards > kernels::cuda::kMostRecalled) {
    return Invalid(name, "kept_forwards is ", options.kept_forwards,
                   "; on a device it must be at most ", kernels::cuda::kMostRecalled);
  }
  std::unique_ptr<DeviceBatchNorm> norm(new DeviceBatchNorm(std::move(name), options));
  auto layer = device::DeviceLayer::Make(norm->name_, device,
                                         reducer == nullptr ? nullptr : reducer->lane());
  if (!layer.ok()) return layer.status();
  norm->layer_ = *std::move(layer);
  norm->kept_ = std::make_unique<device::KeptBlocks>(options.kept_forwards);
  norm->forward_slots_ =
      std::make_unique<device::RoundSlots>(MomentKind::kMeanM2, 2, options.channels);
  norm->backward_slots_ =
      std::make_unique<device::RoundSlots>(MomentKind::kSums, 2, options.channels);
  if (absl::Status set = norm->set_tensors(tensors); !set.ok()) return set;
  if (reducer != nullptr) {
    if (absl::Status added = reducer->AddLayer(norm->name_, norm.get()); !added.ok()) return added;
    norm->group_ = reducer;
  }
  return norm;
}

DeviceBatchNorm::~DeviceBatchNorm() {
  if (group_ == nullptr) return;
  if (!device::CheckNotForked().ok()) return;  // its rounds are the parent's
  forward_slots_->AwaitPublished();
  backward_slots_->AwaitPublished();
  group_->RemoveLayer(name_);
}

absl::Status DeviceBatchNorm::set_tensors(const DeviceBatchNormTensors& tensors) {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const int64_t channels = options_.channels;
  const int device = layer_->device();
  const bool counted = options_.track_running_stats && !options_.momentum.has_value();
  std::vector<absl::Status> checks;
  if (options_.affine) {
    checks.push_back(CheckValues("weight", tensors.weight, channels, device, false));
    checks.push_back(CheckValues("bias", tensors.bias, channels, device, false));
  }
  if (options_.track_running_stats) {
    checks.push_back(CheckStatistic("running_mean", tensors.running_mean, channels, device));
    checks.push_back(CheckStatistic("running_var", tensors.running_var, channels, device));
    if (counted || tensors.num_batches_tracked != nullptr) {
      checks.push_back(device::CheckOnDevice("num_batches_tracked", tensors.num_batches_tracked,
                                             sizeof(int64_t), device));
    }
  }
  if (absl::Status first = layer_->FirstError(checks); !first.ok()) return first;
  tensors_ = {};
  if (options_.affine) {
    tensors_.weight = tensors.weight;
    tensors_.bias = tensors.bias;
  }
  if (options_.track_running_stats) {
    tensors_.running_mean = tensors.running_mean;
    tensors_.running_var = tensors.running_var;
    tensors_.num_batches_tracked = tensors.num_batches_tracked;
  }
  return absl::OkStatus();
}

absl::Status DeviceBatchNorm::SetEpsAndMomentum(double eps, std::optional<double> momentum) {
  if (eps == options_.eps && momentum == options_.momentum) return absl::OkStatus();
  BatchNormOptions changed = options_;
  changed.eps = eps;
  changed.momentum = momentum;
  if (absl::Status ok = norms::CheckBatchNormOptions(name_, changed); !ok.ok()) return ok;
  if (options_.track_running_stats && !momentum.has_value() &&
      tensors_.num_batches_tracked == nullptr) {
    return Invalid(name_, "num_batches_tracked is null; without a momentum it is needed");
  }
  options_ = changed;
  return absl::OkStatus();
}

absl::Status DeviceBatchNorm::Check() {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  return layer_->TakeFailure();
}

absl::StatusOr<std::string> DeviceBatchNorm::Save() {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  forward_slots_->AwaitPublished();  // steps are counted as rounds are sent
  norms::StateMap state;
  const auto read = [&](const char* name, const DeviceValues& values) {
    return device::Read(values, options_.channels, last_stream_, &state[name]);
  };
  std::vector<absl::Status> reads;
  if (options_.affine) {
    reads.push_back(read("weight", tensors_.weight));
    reads.push_back(read("bias", tensors_.bias));
  }
  if (options_.track_running_stats) {
    reads.push_back(read("running_mean", tensors_.running_mean));
    reads.push_back(read("running_var", tensors_.running_var));
    int64_t batches = 0;
    if (tensors_.num_batches_tracked != nullptr) {
      reads.push_back(device::Read(tensors_.num_batches_tracked, last_stream_, &batches));
    }
    state["num_batches_tracked"] = {static_cast<double>(batches)};
  }
  if (absl::Status first = layer_->FirstError(reads); !first.ok()) return first;
  state["steps"] = {static_cast<double>(steps_->load())};
  return wire::EncodeLayerState(state);
}

absl::Status DeviceBatchNorm::Load(std::string_view bytes) {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  absl::StatusOr<norms::StateMap> state = wire::DecodeLayerState(bytes);
  if (!state.ok()) return layer_->Named(state.status());
  forward_slots_->AwaitPublished();
  uint64_t steps = 0;
  if (absl::Status taken = norms::TakeCounter("steps", &*state, &steps); !taken.ok()) {
    return layer_->Named(taken);
  }
  if (absl::Status ok = CheckState(*state, norms::BatchNormEntries(options_)); !ok.ok()) {
    return layer_->Named(ok);
  }
  std::vector<absl::Status> writes;
  if (options_.affine) {
    writes.push_back(device::Write(state->at("weight"), last_stream_, tensors_.weight));
    writes.push_back(device::Write(state->at("bias"), last_stream_, tensors_.bias));
  }
  if (options_.track_running_stats) {
    writes.push_back(device::Write(state->at("running_mean"), last_stream_, tensors_.running_mean));
    writes.push_back(device::Write(state->at("running_var"), last_stream_, tensors_.running_var));
    if (tensors_.num_batches_tracked != nullptr) {
      writes.push_back(device::Write(static_cast<int64_t>(state->at("num_batches_tracked")[0]),
                                     last_stream_, tensors_.num_batches_tracked));
    }
  }
  if (absl::Status first = layer_->FirstError(writes); !first.ok()) return first;
  steps_->store(steps);
  return absl::OkStatus();
}

}  // namespace syncnorm
