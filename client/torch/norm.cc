#include <ATen/ATen.h>
#include <syncnorm/torch.h>

#include "absl/strings/str_cat.h"
#include "client/torch/convert.h"

namespace syncnorm::nn {

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
  for (auto& parameter : named_parameters(/*recurse=*/false)) {
    parameter->set_data(parameter->detach().to(dtype, non_blocking));
  }
  for (auto& buffer : named_buffers(/*recurse=*/false)) {
    if (!buffer->is_floating_point()) continue;
    buffer->set_data(buffer->to(StatisticsType(dtype), non_blocking));
  }
}

void NormImpl::to(::torch::Device device, bool non_blocking) {
  ::torch::nn::Module::to(device, non_blocking);
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
