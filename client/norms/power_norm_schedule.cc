// When SyncPowerNorm's statistics leave, come, and are applied.  The path of a
// tensor: power_norm.cc.
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/norms/channels.h"
#include "client/norms/need_sync.h"
#include "client/norms/power_norm_pending.h"

namespace syncnorm {
namespace {

// A result that is here already.
class Here final : public MomentsFuture::State {
 public:
  explicit Here(absl::StatusOr<Moments> result) : result_(std::move(result)) {}
  bool Ready() override { return true; }
  absl::StatusOr<Moments> Take() override { return std::move(result_); }

 private:
  absl::StatusOr<Moments> result_;
};

bool AllFinite(const std::vector<double>& values) {
  for (double value : values) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

}  // namespace

absl::Status SyncPowerNorm::ForwardStatistic::Receive() {
  const absl::StatusOr<Moments> global = future.Wait();
  status = global.status();
  if (!global.ok()) return status;
  count = global->count;
  power = norms::Means(global->row(0), count);
  return status;
}

MomentsFuture SyncPowerNorm::Submit(const ReduceKey& key, const Moments& local, bool synchronised,
                                    bool at_once) {
  if (!synchronised) return MomentsFuture(std::make_shared<Here>(ReduceAlone(local)));
  if (!at_once) return group_->Reduce(key, local);
  ++blocking_waits_;
  return MomentsFuture(std::make_shared<Here>(group_->ReduceNow(key, local)));
}

// The step's statistic leaves, and `now` learns what the forward normalises with: v_t in warm-up,
// phi_{t-1} after it.
absl::Status SyncPowerNorm::SendStatistic(DType dtype, Moments local, Context* now) {
  const int64_t t = iters_ + 1;
  const bool warm_up = t <= options_.warmup_iters;
  now->synchronised = need_sync();
  now->step = static_cast<uint64_t>(t);
  now->statistic = pending_->forward = std::make_shared<ForwardStatistic>();
  now->statistic->t = t;
  now->statistic->future = Submit({name_, Direction::kForward, now->step, dtype}, local,
                                  now->synchronised, warm_up || blocking());
  if (warm_up) {
    if (absl::Status here = CollectForward(); !here.ok()) return here;
  }
  const bool by_batch = warm_up && now->statistic->count > 0;
  now->invstd = norms::InverseRoots(by_batch ? now->statistic->power : phi_, options_.eps);
  if (!now->synchronised || blocking()) {
    if (absl::Status here = CollectForward(); !here.ok()) return here;
  }
  now->forward =
      kept_->Keep(std::move(local), {now->synchronised, now->step, now->invstd, now->statistic});
  return absl::OkStatus();
}

// What the forward that this one repeats normalised with; the statistic may still be under way.
absl::Status SyncPowerNorm::Recall(const Moments& local, Context* now) const {
  const auto* kept = kept_->Find(local);
  if (kept == nullptr) return kept_->NotFound(name_);
  now->forward = kept->number;
  now->synchronised = kept->forward.synchronised;
  now->step = kept->forward.step;
  now->invstd = kept->forward.invstd;
  now->statistic = kept->forward.statistic;
  return absl::OkStatus();
}

absl::Status SyncPowerNorm::CollectForward() {
  const std::shared_ptr<ForwardStatistic> statistic = std::exchange(pending_->forward, nullptr);
  if (statistic == nullptr) return std::exchange(pending_->untold, absl::OkStatus());
  if (!statistic->future.ready()) ++blocking_waits_;
  const absl::Status received = statistic->Receive();
  if (received.ok()) MovePhi(*statistic);
  return received;
}

// In warm-up the reference takes a cumulative step first.
void SyncPowerNorm::MovePhi(const ForwardStatistic& statistic) {
  if (statistic.count == 0 || !AllFinite(statistic.power)) return;
  const double t = static_cast<double>(statistic.t);
  const double alpha = options_.alpha_fwd;
  const bool cumulative =
      options_.semantics == PowerNormSemantics::kReference && statistic.t < options_.warmup_iters;
  for (size_t c = 0; c < phi_.size(); ++c) {
    const double v = statistic.power[c];
    if (cumulative) phi_[c] = ((t - 1) * phi_[c] + v) / t;
    phi_[c] = alpha * phi_[c] + (1 - alpha) * v;
  }
  iters_ = statistic.t;
}

// `mean_gz`, if given, becomes Lam of what was collected.
absl::Status SyncPowerNorm::CollectBackward(std::vector<double>* mean_gz) {
  if (!pending_->backward.valid()) return absl::OkStatus();
  MomentsFuture future = std::exchange(pending_->backward, MomentsFuture());
  const std::shared_ptr<ForwardStatistic> forward =
      std::exchange(pending_->backward_forward, nullptr);
  if (!future.ready()) ++blocking_waits_;
  const absl::StatusOr<Moments> global = future.Wait();
  if (!global.ok()) return global.status();
  if (mean_gz != nullptr) *mean_gz = norms::Means(global->row(0), global->count);
  return MoveEma(*global, forward);
}

// With e = ema_gz = nu / (1 - alpha_bkw), nu's recursion is
// e = e * (1 - (1 - alpha_bkw) * Gam) + Lam.
absl::Status SyncPowerNorm::MoveEma(const Moments& global,
                                    const std::shared_ptr<ForwardStatistic>& forward) {
  uint64_t valid = global.count;
  if (!masked_backward()) {  // then global.count counts padding, too
    if (forward == pending_->forward) {
      if (absl::Status collected = CollectForward(); !collected.ok()) return collected;
    }
    valid = forward->count;
  }
  const std::vector<double> lam = norms::Means(global.row(0), global.count);
  const std::vector<double> gam = norms::Means(global.row(1), global.count);
  if (valid == 0 || !AllFinite(lam) || !AllFinite(gam)) return absl::OkStatus();
  for (size_t c = 0; c < ema_.size(); ++c) {
    ema_[c] = ema_[c] * (1 - (1 - options_.alpha_bkw) * gam[c]) + lam[c];
  }
  return absl::OkStatus();
}

absl::Status SyncPowerNorm::Drain() {
  const int64_t waits = blocking_waits_;
  absl::Status forward = CollectForward();
  absl::Status backward = CollectBackward();
  blocking_waits_ = waits;  // those of Forward and Backward only
  return forward.ok() ? backward : forward;
}

absl::Status SyncPowerNorm::CheckDrained(const char* before) const {
  if (pending_->forward == nullptr && !pending_->backward.valid()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("layer ", name_, ": ", pending_->forward != nullptr ? "forward" : "backward",
                   " statistics are under way; call Drain() before ", before));
}

bool SyncPowerNorm::masked_backward() const {
  return options_.masked_backward.value_or(options_.semantics == PowerNormSemantics::kPaper);
}

bool SyncPowerNorm::need_sync() const { return norms::NeedSync(training_, group_); }

}  // namespace syncnorm
