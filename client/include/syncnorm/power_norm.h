// SyncPowerNorm: PowerNorm whose quadratic means are those of the whole group's
// batch.  Formulas, and where the authors' code and their paper differ:
// docs/numerics.md.
//
//   semantics     kReference  the authors' released code
//                 kPaper      Algorithms 1 and 2 of arXiv 2003.07845
//
// Schedule.  In the first `warmup_iters` training forwards the batch statistic is
// needed at once and Forward blocks (with kPaper Backward, too).  After them
// nothing is needed at once: statistics travel while the trainer computes and
// are collected at the latest legal moment (kDeferred), which gives the
// results of waiting for each (kBlocking), bit for bit:
//
//                         kReference                 kPaper
//   forward statistics    this step's Backward       the next Forward
//   backward statistics   the next Backward          the next Backward
//
// Drain() collects what is under way: before eval, checkpoints and changes of
// membership.  State() and eval Forwards refuse to run undrained.
//
// Statistics are collected in the order of the calls.  Forwards may follow one
// another before their backwards come, in any order, or never: each context keeps
// its own step's statistic.
//
// Edges, decided from the group's moments and so alike on every member:
//   * A worker without a valid position takes part with zeros.
//   * A step whose positions are padding on all members leaves all state as it
//     was, iters and nu included; in warm-up its y is normalised by running_phi.
//   * A forward statistic that is not finite moves neither running_phi nor iters; a
//     backward one does not move ema_gz.
//   * A failed round: its status comes out of the call that collects it, once
//     (and of the Backwards that need it); the statistic is dropped and moves nothing.
//   * On the local path nothing is ever under way.
//   * A recomputed forward (recompute.h) has no round, collects nothing and moves nothing.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/reducer.h>
#include <syncnorm/tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm {

enum class PowerNormSemantics : uint8_t { kReference = 1, kPaper = 2 };
enum class PowerNormSchedule : uint8_t { kDeferred = 1, kBlocking = 2 };

struct PowerNormOptions {
  int64_t channels = 0;
  double eps = 1e-5;       // >= 0, finite
  double alpha_fwd = 0.9;  // in [0, 1)
  double alpha_bkw = 0.9;  // in [0, 1)
  int64_t warmup_iters = 10000;
  int64_t groups = 1;       // of the group scaling; divides channels
  double group_eps = 1e-5;  // > 0, finite
  bool affine = true;
  PowerNormSemantics semantics = PowerNormSemantics::kReference;
  // Whether padding is left out of the backward statistics, and gets no
  // gradient.  None: as the semantics do (kReference: no, kPaper: yes).
  std::optional<bool> masked_backward;
  PowerNormSchedule schedule = PowerNormSchedule::kDeferred;
  // How many training forwards are kept for recomputations (recompute.h); 0: none, and a
  // recomputation is a forward like any other.  8: a stage of a pipeline seldom has more
  // micro-batches under way; 24 bytes a channel and forward.
  int64_t kept_forwards = 8;
};

class SyncPowerNorm final : public LayerState {
 public:
  // A forward's statistic, perhaps still under way.
  struct ForwardStatistic;
  // What a forward keeps for its backward.  Until then x must stay alive and
  // unchanged, and the weight unchanged.
  struct Context {
    std::string layer;  // whose context this is; empty: of no forward
    ConstTensor x;
    std::vector<uint8_t> valid;  // one byte a position (t, b); empty: no padding
    std::vector<double> group_scale;
    bool training = false;
    bool synchronised = false;
    uint64_t step = 0;                            // t, 1-based
    std::vector<double> invstd;                   // 1 / sqrt(statistic the forward used + eps)
    std::shared_ptr<ForwardStatistic> statistic;  // null in eval
    uint64_t forward = 0;  // which one of those kept for recomputations; 0: none
  };
  struct Gradients {
    std::vector<double> weight, bias;  // sums over this worker's slice; empty when not affine
  };

  // As SyncBatchNorm::Create.
  static absl::StatusOr<std::unique_ptr<SyncPowerNorm>> Create(std::string name,
                                                               PowerNormOptions options,
                                                               Reducer* group);
  ~SyncPowerNorm() override;
  SyncPowerNorm(const SyncPowerNorm&) = delete;
  SyncPowerNorm& operator=(const SyncPowerNorm&) = delete;

  // x: (T, B, C) or (B, C), contiguous.  pad_mask: null, or B x T bytes,
  // row-major, 1 = padding (for (B, C): B bytes); eval ignores it.  y: dtype and shape of x,
  // may be x unless a backward follows.  `context` may be null when none will.
  // kInvalidArgument names what was wrong with x, y or the mask before anything is sent;
  // kFailedPrecondition: eval, and not drained, or a recomputation of no forward that is kept;
  // failures of rounds as MomentsFuture::Wait.
  absl::Status Forward(const ConstTensor& x, const uint8_t* pad_mask, const Tensor& y,
                       Context* context);

  // dx may be null, or dy.  `gradients` may be null.  `grad_scale`: the loss scale that dy
  // carries, > 0; the running statistic is kept in unscaled units.  A training context's
  // Backward is always a round, whether or not dx is wanted.
  absl::Status Backward(const Context& context, const ConstTensor& dy, const Tensor* dx,
                        Gradients* gradients, double grad_scale = 1.0);

  // Collects every statistic under way and applies it.  The first failure is returned; all
  // are collected nevertheless, and afterwards nothing is under way.
  absl::Status Drain();
  // How often Forward or Backward stood still for the network since creation: once for
  // each result that the semantics (in warm-up) or kBlocking need at once, and once for
  // each deferred one that had not come at its latest legal moment.  Drain does not count.
  int64_t blocking_waits() const { return blocking_waits_; }

  void set_training(bool training) { training_ = training; }
  bool training() const { return training_; }
  const std::string& name() const { return name_; }
  const PowerNormOptions& options() const { return options_; }
  bool need_sync() const;

  std::vector<double>& weight() { return weight_; }
  std::vector<double>& bias() { return bias_; }

  // Under the authors' names: weight, bias, running_phi, ema_gz, iters; each flat.
  // ema_gz = nu / (1 - alpha_bkw).  kFailedPrecondition when not drained.  Loading what this
  // gives restores the layer bit for bit.
  absl::StatusOr<std::map<std::string, std::vector<double>>> State() const;
  // kInvalidArgument names a missing, unknown or misshapen entry, kFailedPrecondition:
  // not drained; nothing is changed then.
  absl::Status LoadState(const std::map<std::string, std::vector<double>>& state);

  // The state above, drained: a failure that this meets comes out of the next training Forward or
  // Drain, whichever is first.  Load: kFailedPrecondition when not drained.
  absl::StatusOr<std::string> Save() override;
  absl::Status Load(std::string_view bytes) override;
  // As SyncBatchNorm's.
  void set_state_hooks(std::function<absl::Status()> before_save,
                       std::function<void()> after_load) {
    before_save_ = std::move(before_save);
    after_load_ = std::move(after_load);
  }

 private:
  struct Pending;
  struct Kept;
  SyncPowerNorm(std::string name, PowerNormOptions options);

  absl::Status CheckParameters() const;
  absl::Status CheckOwner(const Context& context, double grad_scale) const;
  absl::Status CheckDrained(const char* before) const;
  bool masked_backward() const;
  bool blocking() const { return options_.schedule == PowerNormSchedule::kBlocking; }
  MomentsFuture Submit(const ReduceKey& key, const Moments& local, bool synchronised, bool at_once);
  absl::Status SendStatistic(DType dtype, Moments local, Context* now);
  absl::Status Recall(const Moments& local, Context* now) const;
  absl::Status CollectForward();
  absl::Status CollectBackward(std::vector<double>* mean_gz = nullptr);
  void MovePhi(const ForwardStatistic& statistic);
  absl::Status MoveEma(const Moments& global, const std::shared_ptr<ForwardStatistic>& forward);

  std::string name_;
  PowerNormOptions options_;
  Reducer* group_ = nullptr;
  bool training_ = true;
  std::vector<double> weight_, bias_;
  std::vector<double> phi_;  // running quadratic mean
  std::vector<double> ema_;  // ema_gz, so that checkpoints are exact; nu = (1 - alpha_bkw) ema_gz
  int64_t iters_ = 0;        // training forwards whose statistic has moved phi_
  int64_t blocking_waits_ = 0;
  std::unique_ptr<Pending> pending_;
  std::unique_ptr<Kept> kept_;
  std::function<absl::Status()> before_save_;
  std::function<void()> after_load_;
};

}  // namespace syncnorm
