#include <ATen/ATen.h>
#include <syncnorm/torch.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/torch/convert.h"

namespace syncnorm::nn {
namespace {

using State = std::map<std::string, std::vector<double>>;

std::map<std::string, at::Tensor> Tensors(const ::torch::nn::Module& module) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& item : module.named_parameters(/*recurse=*/false)) tensors.insert(item.pair());
  for (const auto& item : module.named_buffers(/*recurse=*/false)) tensors.insert(item.pair());
  return tensors;
}

// Of `state`, the entries that the module's tensors still hold, as their types do.
State Holding(const ::torch::nn::Module& module, const State& state) {
  State holding;
  for (const auto& [name, tensor] : Tensors(module)) {
    const auto values = state.find(name);
    if (values == state.end()) continue;
    const at::Tensor written = at::empty_like(tensor);
    Write(values->second, written);
    if (written.equal(tensor)) holding.insert(*values);
  }
  return holding;
}

}  // namespace

NormImpl::NormImpl(std::string type_name, int64_t channels, bool affine)
    : ::torch::nn::Module(std::move(type_name)) {
  if (!affine) return;
  weight = register_parameter("weight", at::ones({channels}));
  bias = register_parameter("bias", at::zeros({channels}));
}

void NormImpl::to(::torch::Device device, ::torch::Dtype dtype, bool non_blocking) {
  to(device, non_blocking);
  to(dtype, non_blocking);
}

void NormImpl::to(::torch::Dtype dtype, bool non_blocking) {
  if (!at::isFloatingType(dtype)) {
    ThrowIfError(absl::InvalidArgumentError("a norm's type is a floating one"));
  }
  const State exact = Holding(*this, written_);
  for (auto& parameter : named_parameters(/*recurse=*/false)) {
    parameter->set_data(parameter->detach().to(dtype, non_blocking));
  }
  for (auto& buffer : named_buffers(/*recurse=*/false)) {
    if (!buffer->is_floating_point()) continue;
    buffer->set_data(buffer->to(StatisticsType(dtype), non_blocking));
  }
  for (auto& [name, tensor] : Tensors(*this)) {
    if (const auto values = exact.find(name); values != exact.end()) Write(values->second, tensor);
  }
}

void NormImpl::to(::torch::Device device, bool non_blocking) {
  ::torch::nn::Module::to(device, non_blocking);
}

NormImpl::State NormImpl::ReadTensors() const {
  State state;
  for (const auto& [name, tensor] : Tensors(*this)) {
    std::vector<double>& values = state[name];
    values.resize(static_cast<size_t>(tensor.numel()));
    Read(tensor, name.c_str(), &values);
  }
  return state;
}

void NormImpl::WriteTensors(State state) {
  for (const auto& [name, tensor] : Tensors(*this)) Write(state.at(name), tensor);
  written_ = std::move(state);
}

void NormImpl::load(::torch::serialize::InputArchive& archive) {
  const at::NoGradGuard no_grad;
  const auto take = [&](const std::string& name, at::Tensor own, bool is_buffer) {
    at::Tensor loaded;
    archive.read(name, loaded, is_buffer);
    if (loaded.sizes() != own.sizes()) {
      ThrowIfError(absl::InvalidArgumentError(absl::StrCat("the file's ", name, " has shape ",
                                                           c10::str(loaded.sizes()), ", not ",
                                                           c10::str(own.sizes()))));
    }
    own.copy_(loaded);
  };
  for (auto& parameter : named_parameters(/*recurse=*/false)) {
    take(parameter.key(), parameter.value(), false);
  }
  for (auto& buffer : named_buffers(/*recurse=*/false)) take(buffer.key(), buffer.value(), true);
}

}  // namespace syncnorm::nn
