// SyncBatchNorm and SyncPowerNorm as LibTorch modules (CMake target
// syncnorm::torch, in a library of its own: nothing else needs LibTorch).
//
//   auto group = syncnorm::Group::Connect(*syncnorm::GroupOptions::FromEnvironment()).value();
//   syncnorm::nn::SyncBatchNorm bn("conv1.bn", {.channels = 64}, group.get());
//   torch::Tensor y = bn->forward(x);
//
// Callers may rely on:
//   * Names.  Parameters and buffers have PyTorch's (SyncBatchNorm) and the
//     authors' names and shapes (SyncPowerNorm), so torch::save and torch::load
//     exchange them with torch::nn::BatchNorm*d, and Python reads the files.
//   * Tensors: on the CPU, f32, f64, f16 or bf16, and of SyncBatchNorm contiguous or channels
//     last (any rank); other layouts are made contiguous first.  y and the gradient of x
//     have the dtype and the memory order of x.  A tensor of another device is refused.
//   * Statistics are never kept in half precision: to(kHalf) and to(kBFloat16) convert the
//     parameters, and running statistics stay as they are.
//   * Errors are StatusErrors, and so c10::Errors, with the text of the status.
//     A group that lost a member throws out of forward() or backward(); it never blocks for
//     longer than its round timeout.
//   * Activation checkpointing.  A training forward inside a backward pass is taken for the
//     repetition of an earlier one: same bits, no round, and statistics move once.  Elsewhere
//     a RecomputeScope says so (recompute.h).  Options' kept_forwards = 0: each is a forward
//     like any other.
//   * Hand-over.  In a member that joined late the tensors start from the other members' state,
//     and what they hold is what a late one gets; in float64, too, if to(kFloat64) comes before
//     the first forward.
//
// Every member must do the same: the same modules in the same order, train or
// eval, and the same need of a gradient.  If the input of a module needs no
// gradient, its backward has no round.  So it must need one on all members, or on
// none: PyTorch's SyncBatchNorm hangs when members differ; here the round
// fails on all of them, after the round timeout or at the next layer, whichever is first, with the
// names of the layer and the ranks.
//
// Not supported, with a clear error: clone() (the copy would need a name of its
// own) and the gradient of a gradient.
//
// Thread-safety: thread-compatible, like every torch module.  Each worker has modules of its own;
// workers may be threads of one process.
#pragma once

#include <syncnorm/batch_norm.h>
#include <syncnorm/power_norm.h>
#include <syncnorm/reducer.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>
#include <torch/nn/pimpl.h>
#include <torch/serialize/archive.h>
#include <torch/types.h>

#include <array>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace syncnorm::nn {

// A status, thrown.  FailureOf(error.status()) (failure.h) has the ranks and the round.
class StatusError : public c10::Error {
 public:
  explicit StatusError(absl::Status status);
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

// What the two modules share: parameters, and statistics that keep their precision.
class NormImpl : public ::torch::nn::Module {
 public:
  // Undefined when not affine.
  ::torch::Tensor weight, bias;

  // Parameters become `dtype`; statistics what StatisticsType says.
  void to(::torch::Device device, ::torch::Dtype dtype, bool non_blocking = false) override;
  void to(::torch::Dtype dtype, bool non_blocking = false) override;
  void to(::torch::Device device, bool non_blocking = false) override;

  // Converts the file's values to the types here.  (LibTorch's own load takes the file's memory as
  // if it had the type of the module's tensors.)  Throws when a tensor is missing or misshapen;
  // tensors before it are loaded then.
  void load(::torch::serialize::InputArchive& archive) override;

 protected:
  using State = std::map<std::string, std::vector<double>>;  // as the norms' State()

  NormImpl(std::string type_name, int64_t channels, bool affine);

  // All tensors' values, and to all tensors.
  State ReadTensors() const;
  void WriteTensors(State state);
  // Training has begun: what WriteTensors wrote need not be more exact than the tensors.
  void ForgetWritten() { written_.clear(); }

  virtual ::torch::Dtype StatisticsType(::torch::Dtype parameters) const = 0;

 private:
  // In float64, so that a state survives a module that becomes one of float64 after it.
  State written_;
};

// The buffers are the truth: read before every forward, written after every
// training forward, in their own dtype.  Loading a file, or writing to them, takes effect
// at the next forward, and a run that resumes from a file continues bit for bit.
class SyncBatchNormImpl : public NormImpl {
 public:
  // Undefined when the options do not track running statistics.  f32, or f64 in a
  // module of f64; num_batches_tracked is an int64 of no dimension.
  ::torch::Tensor running_mean, running_var, num_batches_tracked;

  // `group` may be null (always local) and must outlive this, not the graphs: a backward throws
  // if its module is gone.  Throws StatusError as SyncBatchNorm::Create fails.
  SyncBatchNormImpl(std::string name, BatchNormOptions options, Reducer* group);
  ~SyncBatchNormImpl() override;
  SyncBatchNormImpl(const SyncBatchNormImpl&) = delete;
  SyncBatchNormImpl& operator=(const SyncBatchNormImpl&) = delete;

  // x: (N, C, S...).  mask: undefined, or (N, S...) or (N, 1, S...), bool, uint8 or
  // floating, 0 = does not count (see PositionMask).  In train() the statistics
  // are the group's; in eval() nothing is sent.
  ::torch::Tensor forward(const ::torch::Tensor& x, const ::torch::Tensor& mask = {});

  void pretty_print(std::ostream& stream) const override;
  const BatchNormOptions& options() const { return core_->options(); }
  // The name that the members know the layer by.
  const std::string& layer() const { return core_->name(); }

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, ::torch::nn::AnyValue(::torch::Tensor())})

 private:
  ::torch::Dtype StatisticsType(::torch::Dtype parameters) const override;

  std::shared_ptr<::syncnorm::SyncBatchNorm> core_;
};
TORCH_MODULE(SyncBatchNorm);

// In training the statistics are under way while the trainer computes, so the
// buffers are the truth only when drained: Drain() collects and writes them.
// eval() and save() drain first.  Loading a file, or writing to the buffers, takes
// effect at the next forward or Drain().  Draining waits for what was sent, and
// asks nothing of the other members.
class SyncPowerNormImpl : public NormImpl {
 public:
  // (1, C, 1, 1) each, and an int64 of one element.  f64 always, so that a run that resumes
  // from a file continues bit for bit; files of f32 load, too.
  ::torch::Tensor running_phi, ema_gz, iters;

  // As SyncBatchNorm's.
  SyncPowerNormImpl(std::string name, PowerNormOptions options, Reducer* group);
  ~SyncPowerNormImpl() override;
  SyncPowerNormImpl(const SyncPowerNormImpl&) = delete;
  SyncPowerNormImpl& operator=(const SyncPowerNormImpl&) = delete;

  // x: (T, B, C) or (B, C).  pad_mask: undefined, or (B, T) (for (B, C): (B, 1) or (B)), bool or
  // uint8, true = padding.
  ::torch::Tensor forward(const ::torch::Tensor& x, const ::torch::Tensor& pad_mask = {});

  // The loss scale that the gradients of the following backwards carry.
  void set_grad_scale(double scale) { *grad_scale_ = scale; }

  void Drain();
  void train(bool on = true) override;
  // Drains, so throws what Drain throws.  Logically const: what a reader of the buffers sees
  // is the state that the forwards so far have led to.
  void save(::torch::serialize::OutputArchive& archive) const override;

  void pretty_print(std::ostream& stream) const override;
  const PowerNormOptions& options() const { return core_->options(); }
  const std::string& layer() const { return core_->name(); }
  // See SyncPowerNorm::blocking_waits.
  int64_t blocking_waits() const { return core_->blocking_waits(); }

 protected:
  FORWARD_HAS_DEFAULT_ARGS({1, ::torch::nn::AnyValue(::torch::Tensor())})

 private:
  ::torch::Dtype StatisticsType(::torch::Dtype parameters) const override;
  // Drains the core; then writes the buffers, but takes those that were changed from outside.
  void Collect() const;
  void ExchangeBuffers() const;  // the latter, of a core that is drained
  bool BuffersChanged() const;   // since Collect
  void RememberBuffers() const;
  std::array<std::pair<const char*, ::torch::Tensor>, 3> named_statistics() const;
  void TakeCore();

  std::shared_ptr<::syncnorm::SyncPowerNorm> core_;
  std::shared_ptr<double> grad_scale_;
  // The buffers' values after the last Collect.
  mutable std::map<std::string, std::vector<double>> collected_;
};
TORCH_MODULE(SyncPowerNorm);

}  // namespace syncnorm::nn
