#include <ATen/ATen.h>
#include <syncnorm/torch.h>

#include "absl/strings/str_cat.h"
#include "client/torch/autograd.h"
#include "client/torch/convert.h"

namespace syncnorm::nn {
namespace {

using Core = ::syncnorm::SyncBatchNorm;

std::shared_ptr<Core> CreateCore(std::string name, const BatchNormOptions& options,
                                 Reducer* group) {
  auto core = Core::Create(std::move(name), options, group);
  ThrowIfError(core.status());
  return *std::move(core);
}

// A mask as the library takes it; owns the memory it points to.
struct Mask {
  explicit Mask(const at::Tensor& mask) {
    if (mask.is_floating_point()) {
      memory = mask.to(at::kFloat).contiguous();
      view.type = PositionMask::Type::kF32;
    } else if (mask.scalar_type() == at::kBool || mask.scalar_type() == at::kByte) {
      memory = mask.contiguous();
      view.type = PositionMask::Type::kByte;
    } else {
      ThrowIfError(absl::InvalidArgumentError(
          absl::StrCat("mask has type ", at::toString(mask.scalar_type()),
                       "; supported are Bool, Byte and floating types")));
    }
    view.data = memory.data_ptr();
    view.shape = memory.sizes().vec();
  }

  at::Tensor memory;
  PositionMask view;
};

class BatchNormCall : public NormCall {
 public:
  BatchNormCall(const std::shared_ptr<Core>& core, std::optional<Mask> mask)
      : core_(core), mask_(std::move(mask)) {}

  void SetParameters(const at::Tensor& weight, const at::Tensor& bias) override {
    const std::shared_ptr<Core> core = Lock(core_);
    if (!core->options().affine) return;
    Read(weight, "weight", &core->weight());
    Read(bias, "bias", &core->bias());
  }

  absl::Status Forward(const ConstTensor& x, const Tensor& y, bool keep) override {
    const PositionMask* mask = mask_ ? &mask_->view : nullptr;
    absl::Status status = Lock(core_)->Forward(x, mask, y, keep ? &context_ : nullptr);
    mask_.reset();  // the context has what the backward needs of it
    return status;
  }

  absl::Status Backward(const ConstTensor& x, const ConstTensor& dy, const Tensor* dx,
                        std::vector<double>* d_weight, std::vector<double>* d_bias) override {
    Core::Gradients gradients;
    context_.x = x;
    absl::Status status = Lock(core_)->Backward(context_, dy, dx, &gradients);
    *d_weight = std::move(gradients.weight);
    *d_bias = std::move(gradients.bias);
    return status;
  }

 private:
  std::weak_ptr<Core> core_;
  std::optional<Mask> mask_;
  Core::Context context_;
};

}  // namespace

SyncBatchNormImpl::SyncBatchNormImpl(std::string name, BatchNormOptions options, Reducer* group)
    : NormImpl("syncnorm::nn::SyncBatchNorm", options.channels > 0 ? options.channels : 0,
               options.affine),
      core_(CreateCore(std::move(name), options, group)) {
  if (options.track_running_stats) {
    running_mean = register_buffer("running_mean", at::zeros({options.channels}));
    running_var = register_buffer("running_var", at::ones({options.channels}));
    num_batches_tracked =
        register_buffer("num_batches_tracked", at::zeros({}, at::TensorOptions(at::kLong)));
  }
  core_->set_state_hooks(
      [this] { return Caught(layer(), [this] { return core_->LoadState(ReadTensors()); }); },
      [this] { WriteTensors(core_->State()); });
  WriteTensors(core_->State());  // of which the group may have been handed another
}

// A backward may outlive this, and so may the core.
SyncBatchNormImpl::~SyncBatchNormImpl() { core_->set_state_hooks(nullptr, nullptr); }

at::Tensor SyncBatchNormImpl::forward(const at::Tensor& x, const at::Tensor& mask) {
  CheckSupported(x, "input", layer());
  ForgetWritten();
  core_->set_training(is_training());
  const bool track = options().track_running_stats;
  if (track) {
    Read(running_mean, "running_mean", &core_->running_mean());
    Read(running_var, "running_var", &core_->running_var());
    core_->num_batches_tracked() = num_batches_tracked.item<int64_t>();
  }
  auto call = c10::make_intrusive<BatchNormCall>(
      core_, mask.defined() ? std::optional<Mask>(mask) : std::nullopt);
  at::Tensor y = Apply(call, x, weight, bias, OrderOf(x));
  if (track && is_training()) {
    Write(core_->running_mean(), running_mean);
    Write(core_->running_var(), running_var);
    num_batches_tracked.fill_(core_->num_batches_tracked());
  }
  return y;
}

at::ScalarType SyncBatchNormImpl::StatisticsType(at::ScalarType parameters) const {
  return parameters == at::kDouble ? at::kDouble : at::kFloat;
}

void SyncBatchNormImpl::pretty_print(std::ostream& stream) const {
  const BatchNormOptions& o = options();
  stream << "syncnorm::nn::SyncBatchNorm(" << layer() << ", " << o.channels << ", eps=" << o.eps
         << ", momentum=" << (o.momentum ? absl::StrCat(*o.momentum) : "none")
         << ", affine=" << (o.affine ? "true" : "false")
         << ", track_running_stats=" << (o.track_running_stats ? "true" : "false") << ")";
}

}  // namespace syncnorm::nn
