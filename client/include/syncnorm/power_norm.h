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
// Edges: a global count of 0 leaves all state as it was.  A worker without a
// valid position takes part with zeros.  A backward statistic that is not finite
// moves nu on no member.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include <syncnorm/reducer.h>
#include <syncnorm/tensor.h>

namespace syncnorm {

enum class PowerNormSemantics : uint8_t { kReference = 1, kPaper = 2 };
enum class PowerNormSchedule : uint8_t { kDeferred = 1, kBlocking = 2 };

struct PowerNormOptions {
  int64_t channels = 0;
  double eps = 1e-5;
  double alpha_fwd = 0.9;  // in [0, 1)
  double alpha_bkw = 0.9;  // in [0, 1)
  int64_t warmup_iters = 10000;
  int64_t groups = 1;        // of the group scaling; divides channels
  double group_eps = 1e-5;
  bool affine = true;
  PowerNormSemantics semantics = PowerNormSemantics::kReference;
  // Whether padding is left out of the backward statistics, and gets no
  // gradient.  None: as the semantics do (kReference: no, kPaper: yes).
  std::optional<bool> masked_backward;
  PowerNormSchedule schedule = PowerNormSchedule::kDeferred;
};

class SyncPowerNorm {
 public:
  // What a forward keeps for its backward.  x must stay alive and unchanged until then.
  struct Context {
    ConstTensor x;
    std::vector<uint8_t> valid;  // one byte a position (t, b); empty: no padding
    std::vector<double> group_scale;
    bool training = false;
    bool synchronised = false;
    uint64_t step = 0;             // t, 1-based
    std::vector<double> invstd;    // 1 / sqrt(statistic the forward used + eps)
  };
  struct Gradients {
    std::vector<double> weight, bias;  // sums over this worker's slice; empty when not affine
  };

  // As SyncBatchNorm::Create.
  static absl::StatusOr<std::unique_ptr<SyncPowerNorm>> Create(std::string name,
                                                               PowerNormOptions options,
                                                               Reducer* group);
  ~SyncPowerNorm();
  SyncPowerNorm(const SyncPowerNorm&) = delete;
  SyncPowerNorm& operator=(const SyncPowerNorm&) = delete;

  // x: (T, B, C) or (B, C), contiguous.  pad_mask: null, or B x T bytes,
  // row-major, 1 = padding (for (B, C): B bytes).  y: dtype and shape of x.
  absl::Status Forward(const ConstTensor& x, const uint8_t* pad_mask, const Tensor& y,
                       Context* context);

  // dx may be null.  `grad_scale`: the loss scale that dy carries; the running
  // statistic is kept in unscaled units.
  absl::Status Backward(const Context& context, const ConstTensor& dy, const Tensor* dx,
                        Gradients* gradients, double grad_scale = 1.0);

  // Collects every statistic under way and applies it.
  absl::Status Drain();
  // Waits for the network in Forward or Backward since creation; after warm-up and
  // with kDeferred, only those that the schedule's latest moments cost.
  int64_t blocking_waits() const { return blocking_waits_; }

  void set_training(bool training) { training_ = training; }
  bool training() const { return training_; }
  const std::string& name() const { return name_; }
  const PowerNormOptions& options() const { return options_; }
  bool need_sync() const;

  std::vector<double>& weight() { return weight_; }
  std::vector<double>& bias() { return bias_; }

  // Under the authors' names: weight, bias, running_phi, ema_gz, iters; each flat.
  // ema_gz = nu / (1 - alpha_bkw).  kFailedPrecondition when not drained.
  absl::StatusOr<std::map<std::string, std::vector<double>>> State() const;
  absl::Status LoadState(const std::map<std::string, std::vector<double>>& state);

 private:
  struct Pending;
  SyncPowerNorm(std::string name, PowerNormOptions options, Reducer* group);

  std::string name_;
  PowerNormOptions options_;
  Reducer* group_;
  bool training_ = true;
  std::vector<double> weight_, bias_;
  std::vector<double> phi_, nu_;  // running quadratic mean; backward statistic in the paper's units
  int64_t iters_ = 0;             // training forwards
  int64_t blocking_waits_ = 0;
  std::unique_ptr<Pending> pending_;
};

}  // namespace syncnorm
