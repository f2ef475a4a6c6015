#include <ATen/ATen.h>
#include <syncnorm/torch.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "client/torch/autograd.h"
#include "client/torch/convert.h"

namespace syncnorm::nn {
namespace {

using Core = ::syncnorm::SyncPowerNorm;

std::shared_ptr<Core> CreateCore(std::string name, const PowerNormOptions& options,
                                 Reducer* group) {
  auto core = Core::Create(std::move(name), options, group);
  ThrowIfError(core.status());
  return *std::move(core);
}

// A pad mask as bytes of B x T; undefined if `mask` is.
at::Tensor PadBytes(const at::Tensor& mask, const at::Tensor& x) {
  if (!mask.defined()) return mask;
  if (mask.scalar_type() != at::kBool && mask.scalar_type() != at::kByte) {
    ThrowIfError(absl::InvalidArgumentError(absl::StrCat(
        "pad_mask has type ", at::toString(mask.scalar_type()), "; supported are Bool and Byte")));
  }
  // Of another rank, the library says what is wrong with x.
  const int64_t batch = x.dim() >= 2 ? x.size(-2) : 0;
  const int64_t time = x.dim() == 3 ? x.size(0) : 1;
  const bool fits = mask.dim() == 2 ? mask.size(0) == batch && mask.size(1) == time
                                    : mask.dim() == 1 && time == 1 && mask.size(0) == batch;
  if (!fits) {
    ThrowIfError(absl::InvalidArgumentError(absl::StrCat("pad_mask has shape ",
                                                         c10::str(mask.sizes()), ", not [", batch,
                                                         ", ", time, "], that is (B, T)")));
  }
  return mask.contiguous();
}

class PowerNormCall : public NormCall {
 public:
  PowerNormCall(const std::shared_ptr<Core>& core, at::Tensor padding,
                std::shared_ptr<const double> grad_scale)
      : core_(core), padding_(std::move(padding)), grad_scale_(std::move(grad_scale)) {}

  void SetParameters(const at::Tensor& weight, const at::Tensor& bias) override {
    const std::shared_ptr<Core> core = Lock(core_);
    if (!core->options().affine) return;
    Read(weight, "weight", &core->weight());
    Read(bias, "bias", &core->bias());
  }

  absl::Status Forward(const ConstTensor& x, const Tensor& y, bool keep) override {
    const auto* padding =
        padding_.defined() ? static_cast<const uint8_t*>(padding_.data_ptr()) : nullptr;
    absl::Status status = Lock(core_)->Forward(x, padding, y, keep ? &context_ : nullptr);
    padding_.reset();  // the context has what the backward needs of it
    return status;
  }

  absl::Status Backward(const ConstTensor& x, const ConstTensor& dy, const Tensor* dx,
                        std::vector<double>* d_weight, std::vector<double>* d_bias) override {
    Core::Gradients gradients;
    context_.x = x;
    absl::Status status = Lock(core_)->Backward(context_, dy, dx, &gradients, *grad_scale_);
    *d_weight = std::move(gradients.weight);
    *d_bias = std::move(gradients.bias);
    return status;
  }

 private:
  std::weak_ptr<Core> core_;
  at::Tensor padding_;
  std::shared_ptr<const double> grad_scale_;
  Core::Context context_;
};

std::vector<double> ValuesOf(const at::Tensor& buffer, const char* name) {
  std::vector<double> values(buffer.numel());
  Read(buffer, name, &values);
  return values;
}

// Bit for bit, so that a NaN equals itself.
bool Same(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

}  // namespace

SyncPowerNormImpl::SyncPowerNormImpl(std::string name, PowerNormOptions options, Reducer* group)
    : NormImpl("syncnorm::nn::SyncPowerNorm", options.channels > 0 ? options.channels : 0,
               options.affine),
      core_(CreateCore(std::move(name), options, group)),
      grad_scale_(std::make_shared<double>(1.0)) {
  const at::TensorOptions f64(at::kDouble);
  running_phi = register_buffer("running_phi", at::ones({1, options.channels, 1, 1}, f64));
  ema_gz = register_buffer("ema_gz", at::zeros({1, options.channels, 1, 1}, f64));
  iters = register_buffer("iters", at::zeros({1}, at::TensorOptions(at::kLong)));
  core_->set_state_hooks(
      [this] {
        return Caught(layer(), [this] {
          ExchangeBuffers();
          return core_->LoadState(ReadTensors());
        });
      },
      [this] { TakeCore(); });
  TakeCore();  // whose state the group may have been handed
}

// A backward may outlive this, and so may the core.
SyncPowerNormImpl::~SyncPowerNormImpl() { core_->set_state_hooks(nullptr, nullptr); }

void SyncPowerNormImpl::TakeCore() {
  auto state = core_->State();
  ThrowIfError(state.status());
  WriteTensors(*std::move(state));
  RememberBuffers();
}

at::Tensor SyncPowerNormImpl::forward(const at::Tensor& x, const at::Tensor& pad_mask) {
  CheckSupported(x, "input", layer());
  ForgetWritten();
  if (BuffersChanged()) Collect();
  core_->set_training(is_training());
  auto call = c10::make_intrusive<PowerNormCall>(core_, PadBytes(pad_mask, x), grad_scale_);
  return Apply(call, x, weight, bias, MemoryOrder::kContiguous);
}

void SyncPowerNormImpl::Drain() { Collect(); }

void SyncPowerNormImpl::train(bool on) {
  if (!on) Collect();
  NormImpl::train(on);
}

void SyncPowerNormImpl::save(::torch::serialize::OutputArchive& archive) const {
  Collect();
  NormImpl::save(archive);
}

void SyncPowerNormImpl::Collect() const {
  // Of a state that is about to be replaced, too: it may not be replaced with results under way.
  ThrowIfError(core_->Drain());
  ExchangeBuffers();
}

void SyncPowerNormImpl::ExchangeBuffers() const {
  auto state = core_->State();
  ThrowIfError(state.status());
  bool written = false;
  for (const auto& [name, buffer] : named_statistics()) {
    // What was written to it since counts; the others still have the values from before.
    if (Same(ValuesOf(buffer, name), collected_.at(name))) {
      Write(state->at(name), buffer);
    } else {
      Read(buffer, name, &state->at(name));
      written = true;
    }
  }
  if (written) ThrowIfError(core_->LoadState(*state));
  RememberBuffers();
}

void SyncPowerNormImpl::RememberBuffers() const {
  for (const auto& [name, buffer] : named_statistics()) collected_[name] = ValuesOf(buffer, name);
}

bool SyncPowerNormImpl::BuffersChanged() const {
  for (const auto& [name, buffer] : named_statistics()) {
    if (!Same(ValuesOf(buffer, name), collected_.at(name))) return true;
  }
  return false;
}

std::array<std::pair<const char*, ::torch::Tensor>, 3> SyncPowerNormImpl::named_statistics() const {
  return {{{"running_phi", running_phi}, {"ema_gz", ema_gz}, {"iters", iters}}};
}

at::ScalarType SyncPowerNormImpl::StatisticsType(at::ScalarType) const { return at::kDouble; }

void SyncPowerNormImpl::pretty_print(std::ostream& stream) const {
  const PowerNormOptions& o = options();
  stream << "syncnorm::nn::SyncPowerNorm(" << layer() << ", " << o.channels << ", eps=" << o.eps
         << ", alpha_fwd=" << o.alpha_fwd << ", alpha_bkw=" << o.alpha_bkw
         << ", warmup_iters=" << o.warmup_iters << ", groups=" << o.groups << ")";
}

}  // namespace syncnorm::nn
