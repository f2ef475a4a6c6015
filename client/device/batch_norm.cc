// The path of a device's tensor through batch normalisation, and of its gradient back: what is
// enqueued, in its order.  Creation, tensors and checkpoints: batch_norm_state.cc.
#include <syncnorm/device_batch_norm.h>
#include <syncnorm/recompute.h>

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "client/device/kept_blocks.h"
#include "client/device/layer.h"
#include "client/device/pointers.h"
#include "client/device/round_slot.h"
#include "client/device/views.h"
#include "client/norms/errors.h"
#include "client/norms/grid.h"
#include "client/norms/mask.h"
#include "client/norms/need_sync.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fold.h"

namespace syncnorm {
namespace {

namespace cuda = kernels::cuda;
using cuda::BatchNormKept;
using cuda::MomentsView;
using device::Block;
using device::BytesOf;
using device::Call;
using device::CheckGradients;
using device::CheckLikeOnDevice;
using device::CheckOnDevice;
using device::DataOf;
using device::KeptIn;
using device::RoundSlot;
using device::ValuesOf;
using kernels::ConstSlab;
using kernels::Grid;
using kernels::Slab;
using norms::CheckLike;
using norms::GridOf;
using norms::Memory;

// Blocks of a backward have their moments where those of a forward have them: header 0 between
// calls.  Behind them lie the coefficients.
MomentsView SumsIn(const Block& block) { return KeptIn<BatchNormKept>(block)->local(); }
constexpr int kSumRows = 2, kCoefficientRows = 3;
size_t SumsBytes(int64_t channels) {
  return sizeof(BatchNormKept) + MomentsView::Bytes(kSumRows + kCoefficientRows, channels);
}

}  // namespace

absl::Status DeviceBatchNorm::Forward(const ConstTensor& x, const PositionMask* mask,
                                      const Tensor& y, Context* context, DeviceStream stream) {
  // 1. What the caller gave, checked before anything is enqueued.
  const int64_t channels = options_.channels;
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  absl::StatusOr<Grid> grid = GridOf("x", x, channels, Memory::kDevice);
  if (!grid.ok()) return layer_->Named(grid.status());
  if (absl::Status first =
          layer_->FirstError({CheckLike("y", y, x, *grid, Memory::kDevice),
                              CheckOnDevice("x", x.data, BytesOf(x), layer_->device()),
                              CheckOnDevice("y", y.data, BytesOf(y), layer_->device()),
                              mask == nullptr ? absl::OkStatus() : CheckMask(*mask, x, *grid)});
      !first.ok()) {
    return first;
  }
  const bool recomputes = training_ && options_.kept_forwards > 0 && RecomputeScope::active();
  absl::StatusOr<Call> call = layer_->Begin(stream, need_sync() && !recomputes);
  if (!call.ok()) return call.status();
  last_stream_ = stream;
  Context now{.layer = name_, .x = x};
  absl::StatusOr<std::shared_ptr<Block>> kept = layer_->Kept(BatchNormKept::Bytes(channels), *call);
  if (!kept.ok()) return kept.status();
  now.kept = *std::move(kept);
  absl::Cleanup discard = [&now] { now.kept->Discard(); };
  if (mask != nullptr && grid->positions() > 0) {
    absl::StatusOr<std::shared_ptr<Block>> valid = Valid(*mask, grid->positions(), now, *call);
    if (!valid.ok()) return valid.status();
    now.valid = *std::move(valid);
  }

  // 2. Mean and variance: the group's, this worker's, or the running ones.
  now.batch_statistics = training_ || !options_.track_running_stats;
  const ConstSlab in{x.data, x.dtype, *grid};
  if (now.batch_statistics) {
    absl::StatusOr<std::shared_ptr<Block>> scratch = layer_->Scratch(*grid, 1, x.dtype, &*call);
    if (!scratch.ok()) return scratch.status();
    const MomentsView local = KeptIn<BatchNormKept>(*now.kept)->local();
    if (cudaError_t error = cuda::MeanM2(in, DataOf(now.valid), &local.header->count,
                                         local.values(), local.values() + channels, call->on);
        error != cudaSuccess) {
      return layer_->Named(error, "launching the statistics");
    }
    if (absl::Status used = layer_->Used(*scratch, *call); !used.ok()) return used;
    const absl::Status taken = recomputes ? Recall(*call, &now) : TakeStatistics(*call, &now);
    if (!taken.ok()) return taken;
  } else {
    if (cudaError_t error = cuda::EvalBatchNorm({.channels = channels,
                                                 .eps = options_.eps,
                                                 .weight = ValuesOf(tensors_.weight),
                                                 .bias = ValuesOf(tensors_.bias),
                                                 .running_mean = ValuesOf(tensors_.running_mean),
                                                 .running_var = ValuesOf(tensors_.running_var),
                                                 .kept = KeptIn<BatchNormKept>(*now.kept),
                                                 .bad = &layer_->notes()->bad},
                                                call->on);
        error != cudaSuccess) {
      return layer_->Named(error, "launching the coefficients");
    }
  }

  // 3. y = (x - mean) * (weight * invstd) + bias.
  BatchNormKept* block = KeptIn<BatchNormKept>(*now.kept);
  if (cudaError_t error =
          cuda::Affine(in, DataOf(now.valid), block->row(0, channels), block->row(2, channels),
                       block->row(3, channels), Slab{y.data, y.dtype, *grid}, call->on);
      error != cudaSuccess) {
    return layer_->Named(error, "launching the normalisation");
  }
  for (const auto& used : {now.kept, now.valid}) {
    if (absl::Status recorded = layer_->Used(used, *call); !recorded.ok()) return recorded;
  }
  std::move(discard).Cancel();
  if (context != nullptr) *context = std::move(now);
  return absl::OkStatus();
}

absl::Status DeviceBatchNorm::CheckMask(const PositionMask& mask, const ConstTensor& x,
                                        const Grid& grid) const {
  if (absl::Status sound = norms::CheckMask(mask, x.shape, grid.positions()); !sound.ok()) {
    return sound;
  }
  const int64_t bytes = mask.type == PositionMask::Type::kByte ? 1 : 4;
  return CheckOnDevice("the mask", mask.data, grid.positions() * bytes, layer_->device());
}

// The mask in the kernels' form, which the caller's may not be, nor live until the backward.
absl::StatusOr<std::shared_ptr<Block>> DeviceBatchNorm::Valid(const PositionMask& mask,
                                                              int64_t positions, const Context& now,
                                                              const Call& call) {
  absl::StatusOr<std::shared_ptr<Block>> valid =
      layer_->Plain(static_cast<size_t>(positions), call);
  if (!valid.ok()) return valid.status();
  auto* bytes = reinterpret_cast<uint8_t*>((*valid)->data());
  uint64_t* bad = &KeptIn<BatchNormKept>(*now.kept)->local().header->bad;
  const cudaError_t error = mask.type == PositionMask::Type::kByte
                                ? cuda::ValidFromBytes(static_cast<const uint8_t*>(mask.data),
                                                       positions, bytes, bad, call.on)
                                : cuda::ValidFromFloats(static_cast<const float*>(mask.data),
                                                        positions, bytes, bad, call.on);
  if (error != cudaSuccess) return layer_->Named(error, "launching the mask");
  return valid;
}

absl::Status DeviceBatchNorm::TakeStatistics(const Call& call, Context* now) {
  const DType dtype = now->x.dtype;
  BatchNormKept* block = KeptIn<BatchNormKept>(*now->kept);
  cuda::BatchNormFold fold{.channels = options_.channels,
                           .moments = block->local(),
                           .as_on_wire = dtype != DType::kF64,
                           .eps = options_.eps,
                           .weight = ValuesOf(tensors_.weight),
                           .bias = ValuesOf(tensors_.bias),
                           .momentum = options_.momentum.value_or(-1),
                           .kept = block,
                           .bad = &layer_->notes()->bad};
  if (training_ && options_.track_running_stats) {
    fold.running_mean = ValuesOf(tensors_.running_mean);
    fold.running_var = ValuesOf(tensors_.running_var);
    fold.num_batches_tracked = tensors_.num_batches_tracked;
  }
  now->synchronised = need_sync();
  std::shared_ptr<RoundSlot> slot;
  const absl::Cleanup release = [&slot] {
    if (slot != nullptr) slot->Release();
  };
  if (now->synchronised) {
    absl::StatusOr<std::shared_ptr<RoundSlot>> acquired = forward_slots_->Acquire(call.stream);
    if (!acquired.ok()) return layer_->Named(acquired.status());
    slot = *std::move(acquired);
    now->step = std::make_shared<std::atomic<uint64_t>>(0);
    Lane* const lane = layer_->lane();
    if (absl::Status sent = lane->Submit(slot, {name_, Direction::kForward, 0, dtype},
                                         block->local(), call.stream, {steps_, now->step});
        !sent.ok()) {
      return sent;
    }
    if (absl::Status waits = lane->Await(slot, call.stream); !waits.ok()) {
      return layer_->Named(waits);
    }
    fold.moments = slot->result;
    fold.as_on_wire = false;
    fold.bad = nullptr;  // the lane tells it
  }
  if (cudaError_t error = cuda::FoldBatchNorm(fold, call.on); error != cudaSuccess) {
    return layer_->Named(error, "launching the fold");
  }
  if (slot != nullptr) {
    if (absl::Status read = slot->Consumed(call.stream); !read.ok()) return layer_->Named(read);
  }
  if (training_) kept_->Keep(now->kept, now->synchronised);
  return absl::OkStatus();
}

// What the forward that this one repeats took: one of those kept, which the device finds.
absl::Status DeviceBatchNorm::Recall(const Call& call, Context* now) {
  now->recomputed = true;
  now->synchronised = need_sync();
  cuda::BatchNormRecall recall{.channels = options_.channels,
                               .weight = ValuesOf(tensors_.weight),
                               .bias = ValuesOf(tensors_.bias),
                               .kept = KeptIn<BatchNormKept>(*now->kept),
                               .bad = &layer_->notes()->bad,
                               .missed = &layer_->notes()->missed};
  now->repeats = kept_->Candidates(now->synchronised);
  if (now->repeats.empty()) {
    return layer_->Named(
        absl::FailedPreconditionError("a recomputation, but no training forward came before it"));
  }
  for (const auto& block : now->repeats) {
    recall.candidate[recall.candidates++] = KeptIn<BatchNormKept>(*block);
  }
  if (cudaError_t error = cuda::RecallBatchNorm(recall, call.on); error != cudaSuccess) {
    return layer_->Named(error, "launching the recall");
  }
  for (const auto& block : now->repeats) {
    if (absl::Status recorded = layer_->Used(block, call); !recorded.ok()) return recorded;
  }
  return absl::OkStatus();
}

absl::Status DeviceBatchNorm::Backward(const Context& context, const ConstTensor& dy,
                                       const Tensor* dx, const Gradients* gradients,
                                       DeviceStream stream) {
  // 1. What the caller gave, checked before anything is enqueued.
  const int64_t channels = options_.channels;
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  if (absl::Status owner = norms::CheckOwner(name_, context.layer); !owner.ok()) return owner;
  const ConstTensor& x = context.x;
  absl::StatusOr<Grid> grid = GridOf("the context's x", x, channels, Memory::kDevice);
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
  const bool synchronises = context.synchronised && dx != nullptr;
  absl::StatusOr<Call> call = layer_->Begin(stream, synchronises);
  if (!call.ok()) return call.status();
  last_stream_ = stream;
  absl::StatusOr<std::shared_ptr<Block>> sums = layer_->Kept(SumsBytes(channels), *call);
  if (!sums.ok()) return sums.status();
  absl::Cleanup discard = [&sums] { (*sums)->Discard(); };
  absl::StatusOr<std::shared_ptr<Block>> scratch = layer_->Scratch(*grid, 1, x.dtype, &*call);
  if (!scratch.ok()) return scratch.status();

  // 2. This worker's sums.
  const ConstSlab in{x.data, x.dtype, *grid};
  const ConstSlab gradient{dy.data, dy.dtype, *grid};
  BatchNormKept* kept = KeptIn<BatchNormKept>(*context.kept);
  const MomentsView local = SumsIn(**sums);
  if (cudaError_t error =
          cuda::GradSums(in, gradient, DataOf(context.valid), kept->row(0, channels),
                         &local.header->count, local.values(), local.values() + channels, call->on);
      error != cudaSuccess) {
    return layer_->Named(error, "launching the gradient sums");
  }
  if (absl::Status used = layer_->Used(*scratch, *call); !used.ok()) return used;

  // 3. The group's sums, the parameters' gradients, and dx = a * dy + b * (x - mean) + d.
  double* const coefficients = local.values() + kSumRows * channels;
  cuda::BatchNormGradFold fold{.channels = channels,
                               .local = local,
                               .as_on_wire = x.dtype != DType::kF64,
                               .weight = ValuesOf(tensors_.weight),
                               .kept = kept,
                               .coefficients = dx == nullptr ? nullptr : coefficients};
  if (gradients != nullptr) {
    fold.grad_weight = ValuesOf(gradients->weight);
    fold.grad_bias = ValuesOf(gradients->bias);
  }
  if (context.batch_statistics) fold.moments = local;
  std::shared_ptr<RoundSlot> slot;
  const absl::Cleanup release = [&slot] {
    if (slot != nullptr) slot->Release();
  };
  if (synchronises) {
    absl::StatusOr<std::shared_ptr<RoundSlot>> sent = SendSums(context, local, *call);
    if (!sent.ok()) return sent.status();
    slot = *std::move(sent);
    if (absl::Status waits = layer_->lane()->Await(slot, call->stream); !waits.ok()) {
      return layer_->Named(waits);
    }
    fold.moments = slot->result;
    fold.as_on_wire = false;
  }
  if (cudaError_t error = cuda::FoldBatchNormGrad(fold, call->on); error != cudaSuccess) {
    return layer_->Named(error, "launching the fold of the gradient");
  }
  if (slot != nullptr) {
    if (absl::Status read = slot->Consumed(call->stream); !read.ok()) return layer_->Named(read);
  }
  if (dx != nullptr) {
    if (cudaError_t error =
            cuda::Grad(in, gradient, DataOf(context.valid), kept->row(0, channels), coefficients,
                       coefficients + channels, coefficients + 2 * channels,
                       Slab{dx->data, dx->dtype, *grid}, call->on);
        error != cudaSuccess) {
      return layer_->Named(error, "launching the gradient");
    }
  }
  std::vector<std::shared_ptr<Block>> used = context.repeats;
  used.insert(used.end(), {context.kept, context.valid, *sums});
  for (const auto& block : used) {
    if (absl::Status recorded = layer_->Used(block, *call); !recorded.ok()) return recorded;
  }
  std::move(discard).Cancel();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<RoundSlot>> DeviceBatchNorm::SendSums(const Context& context,
                                                                     MomentsView local,
                                                                     const Call& call) {
  // Only the device knows which step a recomputation repeats: the moments' header says it.
  if (context.recomputed) {
    if (cudaError_t error =
            cudaMemcpyAsync(&local.header->step, &KeptIn<BatchNormKept>(*context.kept)->step,
                            sizeof(uint64_t), cudaMemcpyDeviceToDevice, call.stream);
        error != cudaSuccess) {
      return layer_->Named(error, "copying the step");
    }
  }
  absl::StatusOr<std::shared_ptr<RoundSlot>> slot = backward_slots_->Acquire(call.stream);
  if (!slot.ok()) return layer_->Named(slot.status());
  if (absl::Status sent =
          layer_->lane()->Submit(*slot, {name_, Direction::kBackward, 0, context.x.dtype}, local,
                                 call.stream, {nullptr, context.step});
      !sent.ok()) {
    (*slot)->Release();
    return sent;
  }
  return slot;
}

bool DeviceBatchNorm::need_sync() const { return norms::NeedSync(training_, group_); }

}  // namespace syncnorm
