#include <ATen/ATen.h>

#include <syncnorm/torch.h>
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

}  // namespace syncnorm::nn
