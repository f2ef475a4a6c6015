// The path of a device's tensor through PowerNorm, and of its gradient back: what is enqueued, in
// its order.  Names as in docs/numerics.md.  When statistics are applied: power_norm_schedule.cc.
// Creation, tensors and checkpoints: power_norm_state.cc.
#include <syncnorm/device_power_norm.h>
#include <syncnorm/recompute.h>

#include <cmath>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "client/device/layer.h"
#include "client/device/pointers.h"
#include "client/device/round_slot.h"
#include "client/device/views.h"
#include "client/norms/errors.h"
#include "client/norms/grid.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fold_power.h"

namespace syncnorm {
namespace {

namespace cuda = kernels::cuda;
using cuda::MomentsView;
using cuda::PowerKept;
using device::Block;
using device::BytesOf;
using device::Call;
using device::CheckGradients;
using device::CheckLikeOnDevice;
using device::CheckOnDevice;
using device::DataOf;
using device::KeptIn;
using device::ValuesOf;
using kernels::ConstSlab;
using kernels::Grid;
using kernels::Slab;
using norms::CheckLike;
using norms::Memory;
using norms::TokenGridOf;

// A backward's block, the message where a forward's local moments are:
//
//   | PowerKept, unused but for the first word: a count | message: header, 2 rows |
//   | sums over all positions: 3 rows | over the statistic's: 3 rows | a | b |
constexpr int kMessageRows = 2, kSumRows = 3, kCoefficientRows = 2;
size_t SumsBytes(int64_t channels) {
  return sizeof(PowerKept) +
         MomentsView::Bytes(kMessageRows + 2 * kSumRows + kCoefficientRows, channels);
}

}  // namespace

absl::Status DevicePowerNorm::Forward(const ConstTensor& x, const uint8_t* pad_mask,
                                      const Tensor& y, Context* context, DeviceStream stream) {
  // 1. What the caller gave, checked before anything is enqueued.
  const int64_t channels = options_.channels, groups = options_.groups;
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  absl::StatusOr<Grid> grid = TokenGridOf("x", x, channels, Memory::kDevice);
  if (!grid.ok()) return layer_->Named(grid.status());
  if (!training_) pad_mask = nullptr;
  if (absl::Status first = layer_->FirstError(
          {CheckLike("y", y, x, *grid, Memory::kDevice),
           CheckOnDevice("x", x.data, BytesOf(x), layer_->device()),
           CheckOnDevice("y", y.data, BytesOf(y), layer_->device()),
           pad_mask == nullptr
               ? absl::OkStatus()
               : CheckOnDevice("the padding mask", pad_mask, grid->positions(), layer_->device()),
           training_ ? absl::OkStatus() : CheckDrained("an eval Forward")});
      !first.ok()) {
    return first;
  }
  const bool recomputes = training_ && options_.kept_forwards > 0 && RecomputeScope::active();
  absl::StatusOr<Call> call = layer_->Begin(stream, (need_sync() || under_way()) && !recomputes);
  if (!call.ok()) return call.status();
  last_stream_ = stream;
  Context now{.layer = name_, .x = x, .training = training_};
  absl::StatusOr<std::shared_ptr<Block>> kept = layer_->Kept(PowerKept::Bytes(channels), *call);
  if (!kept.ok()) return kept.status();
  now.kept = *std::move(kept);
  absl::Cleanup discard = [&now] { now.kept->Discard(); };
  auto* const block = KeptIn<PowerKept>(*now.kept);
  if (pad_mask != nullptr && grid->positions() > 0) {
    const int64_t times = x.shape.size() == 3 ? x.shape[0] : 1;
    absl::StatusOr<std::shared_ptr<Block>> valid =
        layer_->Plain(static_cast<size_t>(grid->positions()), *call);
    if (!valid.ok()) return valid.status();
    now.valid = *std::move(valid);
    if (cudaError_t error = cuda::ValidTokens(pad_mask, times, grid->positions() / times,
                                              reinterpret_cast<uint8_t*>(now.valid->data()),
                                              &block->local().header->bad, call->on);
        error != cudaSuccess) {
      return layer_->Named(error, "launching the mask");
    }
  }

  // 2. Step t needs phi_{t-1}, eval the last phi, a recomputation neither; and all the group
  //    scaling r, xs = x * r.
  if (training_ && !recomputes) {
    if (absl::Status applied = ApplyForward(*call); !applied.ok()) return applied;
  }
  if (!recomputes) {
    if (cudaError_t error =
            cuda::BeginPower({.layer = Layer(), .training = training_, .kept = block}, call->on);
        error != cudaSuccess) {
      return layer_->Named(error, "launching the beginning of a step");
    }
  }
  const ConstSlab in{x.data, x.dtype, *grid};
  const size_t factor = x.dtype == DType::kF64 ? sizeof(double) : sizeof(float);
  absl::StatusOr<std::shared_ptr<Block>> scale =
      layer_->Plain(static_cast<size_t>(grid->positions() * groups) * factor, *call);
  if (!scale.ok()) return scale.status();
  now.group_scale = *std::move(scale);
  void* const r = now.group_scale->data();
  if (cudaError_t error = cuda::GroupScale(in, groups, options_.group_eps, r, call->on);
      error != cudaSuccess) {
    return layer_->Named(error, "launching the group scaling");
  }

  // 3. The statistic v_t: this worker's sums leave; in warm-up the group's are needed.
  if (training_) {
    absl::StatusOr<std::shared_ptr<Block>> scratch =
        layer_->Scratch(*grid, groups, x.dtype, &*call);
    if (!scratch.ok()) return scratch.status();
    const MomentsView local = block->local();
    if (cudaError_t error = cuda::PowerSums(in, r, groups, DataOf(now.valid), &local.header->count,
                                            local.values(), call->on);
        error != cudaSuccess) {
      return layer_->Named(error, "launching the statistics");
    }
    if (absl::Status used = layer_->Used(*scratch, *call); !used.ok()) return used;
    const absl::Status sent = recomputes ? Recall(*call, &now) : SendStatistic(*call, &now);
    if (!sent.ok()) return sent;
  }

  // 4. y = weight * xs / sqrt(v_t or phi_{t-1} + eps) + bias.
  if (cudaError_t error =
          cuda::PowerApply(in, r, groups, block->row(2, channels), block->row(3, channels),
                           Slab{y.data, y.dtype, *grid}, call->on);
      error != cudaSuccess) {
    return layer_->Named(error, "launching the normalisation");
  }
  for (const auto& used : {now.kept, now.valid, now.group_scale}) {
    if (absl::Status recorded = layer_->Used(used, *call); !recorded.ok()) return recorded;
  }
  std::move(discard).Cancel();
  if (context != nullptr) *context = std::move(now);
  return absl::OkStatus();
}

// With g = weight * dy and z = xs * invstd:  dxs = (g - c * z) / sqrt(q + eps), then through
// the group scaling.  c and q: power_norm.cc of the CPU, and kernels/cuda/fold_power.cu.
absl::Status DevicePowerNorm::Backward(const Context& context, const ConstTensor& dy,
                                       const Tensor* dx, const Gradients* gradients,
                                       DeviceStream stream, double grad_scale) {
  // 1. What the caller gave, checked before anything is enqueued.
  const int64_t channels = options_.channels, groups = options_.groups;
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  if (absl::Status owner = norms::CheckOwner(name_, context.layer); !owner.ok()) return owner;
  if (!(grad_scale > 0 && std::isfinite(grad_scale))) {
    return norms::Invalid(name_, "grad_scale is ", grad_scale, "; it must be finite and above 0");
  }
  const ConstTensor& x = context.x;
  absl::StatusOr<Grid> grid = TokenGridOf("the context's x", x, channels, Memory::kDevice);
  if (!grid.ok()) return layer_->Named(grid.status());
  if (absl::Status first = layer_->FirstError(
          {CheckLikeOnDevice("dy", dy, x, *grid, layer_->device()),
           dx == nullptr ? absl::OkStatus()
                         : CheckLikeOnDevice("dx", *dx, x, *grid, layer_->device()),
           gradients == nullptr
               ? absl::OkStatus()
               : CheckGradients(gradients->weight, gradients->bias, channels, layer_->device())});
      !first.ok()) {
    return first;
  }
  absl::StatusOr<Call> call =
      layer_->Begin(stream, context.training && (context.synchronised || under_way()));
  if (!call.ok()) return call.status();
  last_stream_ = stream;
  absl::StatusOr<std::shared_ptr<Block>> sums = layer_->Kept(SumsBytes(channels), *call);
  if (!sums.ok()) return sums.status();
  absl::Cleanup discard = [&sums] { (*sums)->Discard(); };
  absl::StatusOr<std::shared_ptr<Block>> scratch = layer_->Scratch(*grid, groups, x.dtype, &*call);
  if (!scratch.ok()) return scratch.status();

  // 2. Sums over all positions, for the gradients of weight and bias; and, where padding is left
  // out of
  //    the statistic, those over the others.
  const ConstSlab in{x.data, x.dtype, *grid};
  const ConstSlab gradient{dy.data, dy.dtype, *grid};
  const void* const r = context.group_scale->data();
  const uint8_t* const valid = masked_backward() ? DataOf(context.valid) : nullptr;
  auto* const kept = KeptIn<PowerKept>(*context.kept);
  auto* const unused = KeptIn<PowerKept>(**sums);
  const MomentsView message = unused->local();
  double* const all = message.values() + kMessageRows * channels;
  double* const counted = all + kSumRows * channels;
  double* const coefficients = counted + kSumRows * channels;
  const auto sum_over = [&](const uint8_t* positions, uint64_t* count, double* rows) {
    return cuda::PowerGradSums(in, r, groups, gradient, positions, count, rows, rows + channels,
                               rows + 2 * channels, call->on);
  };
  const bool same = valid == nullptr;
  cudaError_t error = cudaSuccess;
  if (gradients != nullptr) {
    error =
        sum_over(nullptr, context.training && same ? &message.header->count : &unused->count, all);
  }
  if (error == cudaSuccess && context.training && (gradients == nullptr || !same)) {
    error = sum_over(valid, &message.header->count, counted);
  }
  if (error != cudaSuccess) return layer_->Named(error, "launching the gradient sums");
  if (absl::Status used = layer_->Used(*scratch, *call); !used.ok()) return used;
  cuda::PowerMessage make{.layer = Layer(), .kept = kept, .grad_scale = grad_scale};
  if (gradients != nullptr) {
    make.all = all;
    make.grad_weight = ValuesOf(gradients->weight);
    make.grad_bias = ValuesOf(gradients->bias);
  }
  if (context.training) {
    make.counted = gradients != nullptr && same ? all : counted;
    make.message = message;
  }
  if (error = cuda::MakePowerMessage(make, call->on); error != cudaSuccess) {
    return layer_->Named(error, "launching the message");
  }

  // 3. The statistic: sum g z and sum z^2 leave, and what this step needs is applied.
  cuda::PowerGradFold fold{.layer = Layer(),
                           .kept = kept,
                           .grad_scale = grad_scale,
                           .wants_dx = dx != nullptr,
                           .message = message,
                           .coefficients = dx == nullptr ? nullptr : coefficients};
  Statistic before, here;
  if (context.training) {
    const bool reference = options_.semantics == PowerNormSemantics::kReference;
    std::shared_ptr<device::RoundSlot> slot;
    if (context.synchronised) {
      absl::StatusOr<std::shared_ptr<device::RoundSlot>> acquired =
          backward_slots_->Acquire(call->stream);
      if (!acquired.ok()) return layer_->Named(acquired.status());
      slot = *std::move(acquired);
      // The step, 0 here: the message's header says it.
      if (absl::Status sent = layer_->lane()->Submit(
              slot, {name_, Direction::kBackward, 0, x.dtype}, message, call->stream);
          !sent.ok()) {
        slot->Release();
        return sent;
      }
    }
    absl::Status waits = TakeBackward(*call, &before, &fold.before);
    if (slot != nullptr) backward_ = {slot, context.kept, context.repeats};
    if (!waits.ok()) return waits;
    const bool exact = !reference && dx != nullptr && context.warm_up;
    if (!context.synchronised) {
      fold.now = {message, x.dtype != DType::kF64, kept};
    } else if (exact || blocking()) {
      if (waits = TakeBackward(*call, &here, &fold.now); !waits.ok()) {
        if (before.slot != nullptr) before.slot->Release();
        return waits;
      }
    }
    if (reference && dx != nullptr && IsOf(forward_, context.kept, context.repeats)) {
      if (absl::Status applied = ApplyForward(*call); !applied.ok()) return applied;
    }
  }
  if (error = cuda::FoldPowerGrad(fold, call->on); error != cudaSuccess) {
    for (const Statistic* taken : {&before, &here}) {
      if (taken->slot != nullptr) taken->slot->Release();
    }
    return layer_->Named(error, "launching the fold of the gradient");
  }
  for (const Statistic* taken : {&before, &here}) {
    if (absl::Status applied = Applied(*call, *taken); !applied.ok()) return applied;
  }

  // 4. dx, by a * dy + b * xs.
  if (dx != nullptr) {
    error = cuda::PowerGrad(in, r, groups, gradient, valid, coefficients, coefficients + channels,
                            Slab{dx->data, dx->dtype, *grid}, call->on);
    if (error != cudaSuccess) return layer_->Named(error, "launching the gradient");
  }
  std::vector<std::shared_ptr<Block>> used = context.repeats;
  used.insert(used.end(), {context.kept, context.valid, context.group_scale, *sums});
  for (const auto& one : used) {
    if (absl::Status recorded = layer_->Used(one, *call); !recorded.ok()) return recorded;
  }
  std::move(discard).Cancel();
  return absl::OkStatus();
}

}  // namespace syncnorm
