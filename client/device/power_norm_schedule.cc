// When DevicePowerNorm's statistics leave, and when they are applied.  The path of a tensor:
// power_norm.cc.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/device/kept_blocks.h"
#include "client/device/layer.h"
#include "client/device/power_norm_progress.h"
#include "client/device/round_slot.h"
#include "client/device/views.h"
#include "client/norms/need_sync.h"
#include "kernels/cuda/fold_power.h"

namespace syncnorm {
namespace {

namespace cuda = kernels::cuda;
using cuda::PowerKept;
using device::Block;
using device::Call;
using device::KeptIn;
using device::RoundSlot;

}  // namespace

void DevicePowerNorm::Progress::Observe(const absl::StatusOr<Moments>& result) {
  if (warm_up_is_over() || !result.ok() || result->count == 0) return;
  const bool finite = std::all_of(result->values.begin(), result->values.end(),
                                  [](double value) { return std::isfinite(value); });
  if (finite) iters.fetch_add(1, std::memory_order_acq_rel);
}

// The step's statistic leaves.  In warm-up, or where it may be one, it comes back at once.
absl::Status DevicePowerNorm::SendStatistic(const Call& call, Context* now) {
  const DType dtype = now->x.dtype;
  auto* const block = KeptIn<PowerKept>(*now->kept);
  now->synchronised = need_sync();
  now->warm_up = !progress_->warm_up_is_over();
  if (now->synchronised) {
    absl::StatusOr<std::shared_ptr<RoundSlot>> slot = forward_slots_->Acquire(call.stream);
    if (!slot.ok()) return layer_->Named(slot.status());
    // The step, 0 here: the moments' header says it.
    if (absl::Status sent = layer_->lane()->Submit(*slot, {name_, Direction::kForward, 0, dtype},
                                                   block->local(), call.stream);
        !sent.ok()) {
      (*slot)->Release();
      return sent;
    }
    forward_ = {*std::move(slot), now->kept, {}};
    if (now->warm_up || blocking()) {
      if (absl::Status applied = ApplyForward(call, /*coefficients=*/true); !applied.ok()) {
        return applied;
      }
    }
  } else if (cudaError_t error = cuda::ApplyPowerForward({.layer = Layer(),
                                                          .moments = block->local(),
                                                          .as_on_wire = dtype != DType::kF64,
                                                          .coefficients = true,
                                                          .kept = block,
                                                          .bad = &layer_->notes()->bad},
                                                         call.on);
             error != cudaSuccess) {
    return layer_->Named(error, "launching the statistic");
  }
  kept_->Keep(now->kept, now->synchronised);
  return absl::OkStatus();
}

// What the forward that this one repeats normalised with; the statistic may still be under way.
absl::Status DevicePowerNorm::Recall(const Call& call, Context* now) {
  now->synchronised = need_sync();
  now->warm_up = true;  // the repeated one may have been
  cuda::PowerRecall recall{.layer = Layer(),
                           .kept = KeptIn<PowerKept>(*now->kept),
                           .bad = &layer_->notes()->bad,
                           .missed = &layer_->notes()->missed};
  now->repeats = kept_->Candidates(now->synchronised);
  if (now->repeats.empty()) {
    return layer_->Named(
        absl::FailedPreconditionError("a recomputation, but no training forward came before it"));
  }
  for (const auto& block : now->repeats) {
    recall.candidate[recall.candidates++] = KeptIn<PowerKept>(*block);
  }
  if (cudaError_t error = cuda::RecallPower(recall, call.on); error != cudaSuccess) {
    return layer_->Named(error, "launching the recall");
  }
  for (const auto& block : now->repeats) {
    if (absl::Status recorded = layer_->Used(block, call); !recorded.ok()) return recorded;
  }
  return absl::OkStatus();
}

absl::Status DevicePowerNorm::ApplyForward(const Call& call, bool coefficients) {
  const Statistic statistic = std::exchange(forward_, {});
  if (statistic.slot == nullptr) return absl::OkStatus();
  const absl::Status waits = layer_->lane()->Await(statistic.slot, call.stream);
  if (!waits.ok()) {
    statistic.slot->Release();
    statistic.kept->Discard();  // what is to be reset now is not
    return layer_->Named(waits);
  }
  if (cudaError_t error = cuda::ApplyPowerForward({.layer = Layer(),
                                                   .moments = statistic.slot->result,
                                                   .coefficients = coefficients,
                                                   .kept = KeptIn<PowerKept>(*statistic.kept)},
                                                  call.on);
      error != cudaSuccess) {
    statistic.slot->Release();
    statistic.kept->Discard();
    return layer_->Named(error, "launching the statistic");
  }
  if (absl::Status read = statistic.slot->Consumed(call.stream); !read.ok()) {
    return layer_->Named(read);
  }
  return layer_->Used(statistic.kept, call);
}

// Takes the backward statistic under way, for the next FoldPowerGrad on the stream; after that
// comes Applied.
absl::Status DevicePowerNorm::TakeBackward(const Call& call, Statistic* taken,
                                           cuda::PowerBackwardStatistic* statistic) {
  *taken = std::exchange(backward_, {});
  if (taken->slot == nullptr) return absl::OkStatus();
  // Where padding counts, the forward's count says whether there was anything else.
  if (!masked_backward() && IsOf(forward_, taken->kept, taken->repeats)) {
    if (absl::Status applied = ApplyForward(call); !applied.ok()) return applied;
  }
  if (absl::Status waits = layer_->lane()->Await(taken->slot, call.stream); !waits.ok()) {
    taken->slot->Release();
    return layer_->Named(waits);
  }
  *statistic = {.moments = taken->slot->result, .kept = KeptIn<PowerKept>(*taken->kept)};
  return absl::OkStatus();
}

absl::Status DevicePowerNorm::Applied(const Call& call, const Statistic& taken) {
  if (taken.slot == nullptr) return absl::OkStatus();
  if (absl::Status read = taken.slot->Consumed(call.stream); !read.ok()) {
    return layer_->Named(read);
  }
  for (const auto& block : taken.repeats) {
    if (absl::Status recorded = layer_->Used(block, call); !recorded.ok()) return recorded;
  }
  return layer_->Used(taken.kept, call);
}

bool DevicePowerNorm::IsOf(const Statistic& statistic, const std::shared_ptr<Block>& kept,
                           const std::vector<std::shared_ptr<Block>>& repeats) {
  if (statistic.slot == nullptr) return false;
  return statistic.kept == kept ||
         std::find(repeats.begin(), repeats.end(), statistic.kept) != repeats.end();
}

absl::Status DevicePowerNorm::Drain(DeviceStream stream) {
  if (absl::Status forked = device::CheckNotForked(); !forked.ok()) return forked;
  const device::DeviceScope scope(layer_->device());
  absl::StatusOr<Call> call = layer_->Begin(stream, under_way());
  if (!call.ok()) return call.status();
  if (absl::Status applied = ApplyForward(*call); !applied.ok()) return applied;
  Statistic taken;
  cuda::PowerGradFold fold{.layer = Layer()};
  if (absl::Status waits = TakeBackward(*call, &taken, &fold.before); !waits.ok()) return waits;
  if (taken.slot == nullptr) return absl::OkStatus();
  fold.kept = KeptIn<PowerKept>(*taken.kept);
  if (cudaError_t error = cuda::FoldPowerGrad(fold, call->on); error != cudaSuccess) {
    taken.slot->Release();
    return layer_->Named(error, "launching the statistic");
  }
  return Applied(*call, taken);
}

absl::Status DevicePowerNorm::CheckDrained(const char* before) const {
  if (!under_way()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(forward_.slot != nullptr ? "forward" : "backward",
                   " statistics are under way; call Drain() before ", before));
}

bool DevicePowerNorm::masked_backward() const {
  return options_.masked_backward.value_or(options_.semantics == PowerNormSemantics::kPaper);
}

bool DevicePowerNorm::need_sync() const { return norms::NeedSync(training_, group_); }

}  // namespace syncnorm
