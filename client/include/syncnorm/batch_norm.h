// SyncBatchNorm: batch normalisation whose statistics are those of the whole
// group's batch.  PyTorch's semantics: normalises with the biased variance, keeps
// the unbiased one.  Formulas: docs/numerics.md.
//
// Synchronises only when training, connected, and the group has more than one
// worker; otherwise the local path, with the arithmetic of a group of one, bit for bit.
//
// Edges, all defined:
//   * An empty local batch takes part with a count of 0.
//   * Global count 0: the output is empty (or all masked), no running statistic
//     moves, num_batches_tracked neither.
//   * Global count 1: the variance is 0, y = bias, dx = 0; running_mean moves,
//     running_var does not (the unbiased variance of one value does not exist).
//   * A channel whose variance + eps is 0 gives y = bias and dx = 0.
//   * Masked positions count nowhere: y and dx are 0 there and dy is ignored.
//   * A recomputed forward (recompute.h) has no round and moves nothing.
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

struct BatchNormOptions {
  int64_t channels = 0;
  double eps = 1e-5;                     // > = 0, finite
  std::optional<double> momentum = 0.1;  // in [0, 1]; none: cumulative average
  bool affine = true;
  bool track_running_stats = true;
  // How many training forwards are kept for recomputations (recompute.h); 0: none, and a
  // recomputation is a forward like any other.  8: a stage of a pipeline seldom has more
  // micro-batches under way; 32 bytes a channel and forward.
  int64_t kept_forwards = 8;
};

// Which positions count: one byte (0 or 1) or one float (0.0 or 1.0) a
// position, in the order of (N, S...), row-major, whatever the tensor's memory format.
// Shape (N, S...), or (N, 1, S...).
struct PositionMask {
  enum class Type : uint8_t { kByte, kF32 };
  const void* data = nullptr;
  Type type = Type::kByte;
  std::vector<int64_t> shape;
};

class SyncBatchNorm final : public LayerState {
 public:
  // What a forward keeps for its backward.  Until then x must stay alive and
  // unchanged, and the weight unchanged.
  struct Context {
    std::string layer;  // whose context this is; empty: of no forward
    ConstTensor x;
    std::vector<uint8_t> valid;  // empty: nothing is masked out
    bool batch_statistics = false;
    bool synchronised = false;
    uint64_t step = 0;
    uint64_t count = 0;  // global
    std::vector<double> mean, invstd;
    uint64_t forward = 0;  // which one of those kept for recomputations; 0: none
  };
  // Of this worker's slice: sums over it, as the data-parallel layer expects
  // them (it reduces them with the other gradients).
  struct Gradients {
    std::vector<double> weight, bias;  // empty when not affine
  };

  // `group` may be null: always local.  It must outlive this.  `name` is the same on every member,
  // and one of its kind in the group.  kInvalidArgument names the option and its value;
  // kAlreadyExists the name.
  static absl::StatusOr<std::unique_ptr<SyncBatchNorm>> Create(std::string name,
                                                               BatchNormOptions options,
                                                               Reducer* group);
  ~SyncBatchNorm() override;
  SyncBatchNorm(const SyncBatchNorm&) = delete;
  SyncBatchNorm& operator=(const SyncBatchNorm&) = delete;

  // Order of rounds: that of the calls.  One a training Forward, one a Backward that is
  // given dx; none in eval, for a recomputed Forward, nor for a context of the local path.

  // y = weight * (x - mean) / sqrt(var + eps) + bias.  x: (N, C, S...), rank >=
  // 2, contiguous or channels last; y: dtype, shape and strides of x, may be x unless a
  // backward follows.  `context` may be null when none will.  kInvalidArgument
  // names what was wrong with x, y or the mask before anything is sent; kFailedPrecondition: a
  // recomputation of no forward that is kept; failures of the round as MomentsFuture::Wait.
  absl::Status Forward(const ConstTensor& x, const PositionMask* mask, const Tensor& y,
                       Context* context);

  // dy: as y was.  dx: null when x needs no gradient *on any member*; the same
  // dtype, shape and strides as x otherwise; may be dy.  `gradients` may be null.
  // kInvalidArgument names what was wrong with dy, dx or the context before anything is sent.
  absl::Status Backward(const Context& context, const ConstTensor& dy, const Tensor* dx,
                        Gradients* gradients);

  // Of the calls that follow.  kInvalidArgument as Create; nothing is changed then.
  absl::Status SetEpsAndMomentum(double eps, std::optional<double> momentum);

  void set_training(bool training) { training_ = training; }
  bool training() const { return training_; }
  const std::string& name() const { return name_; }
  const BatchNormOptions& options() const { return options_; }
  // Whether a forward now would synchronise.
  bool need_sync() const;

  // Parameters and running statistics, C values each; empty where the options say so.
  // Kept in float64.  Their values may be changed between calls, their number not.
  std::vector<double>& weight() { return weight_; }
  std::vector<double>& bias() { return bias_; }
  std::vector<double>& running_mean() { return running_mean_; }
  std::vector<double>& running_var() { return running_var_; }
  int64_t& num_batches_tracked() { return num_batches_tracked_; }

  // Under PyTorch's names: weight, bias, running_mean, running_var, num_batches_tracked.
  std::map<std::string, std::vector<double>> State() const;
  // kInvalidArgument names a missing, unknown or misshapen entry; nothing is changed then.
  absl::Status LoadState(const std::map<std::string, std::vector<double>>& state);

  // All that the layer goes on from: the state above, and its steps.
  absl::StatusOr<std::string> Save() override;
  absl::Status Load(std::string_view bytes) override;
  // For an owner that keeps the values elsewhere, as the LibTorch modules do: called in Save,
  // before the values are taken, and in Load, after they have changed.
  void set_state_hooks(std::function<absl::Status()> before_save,
                       std::function<void()> after_load) {
    before_save_ = std::move(before_save);
    after_load_ = std::move(after_load);
  }

 private:
  struct Kept;
  SyncBatchNorm(std::string name, BatchNormOptions options);

  absl::Status CheckParameters() const;
  absl::Status TakeStatistics(DType dtype, Moments local, Context* now);
  absl::Status Recall(const Moments& local, Context* now) const;
  void MoveRunningStatistics(const Moments& global);

  std::string name_;
  BatchNormOptions options_;
  Reducer* group_ = nullptr;
  bool training_ = true;
  uint64_t steps_ = 0;  // synchronised forwards: equal on all members, for the keys of rounds
  std::vector<double> weight_, bias_, running_mean_, running_var_;
  int64_t num_batches_tracked_ = 0;
  std::unique_ptr<Kept> kept_;
  std::function<absl::Status()> before_save_;
  std::function<void()> after_load_;
};

}  // namespace syncnorm
