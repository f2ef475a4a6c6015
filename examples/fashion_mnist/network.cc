#include "examples/fashion_mnist/network.h"

#include <syncnorm/torch.h>
#include <torch/torch.h>

namespace syncnorm::examples {
namespace {

torch::nn::Conv2d Conv3x3(int64_t in, int64_t out) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).padding(1).bias(false));
}

torch::Tensor ReluAndHalve(const torch::Tensor& x) { return torch::max_pool2d(x.relu(), 2); }

}  // namespace

NormFactory TorchNorms() {
  return [](const std::string&, int64_t channels, int dimensions) {
    return dimensions == 4 ? torch::nn::AnyModule(torch::nn::BatchNorm2d(channels))
                           : torch::nn::AnyModule(torch::nn::BatchNorm1d(channels));
  };
}

NormFactory SyncNorms(Reducer* group) {
  return [group](const std::string& name, int64_t channels, int) {
    BatchNormOptions options;
    options.channels = channels;
    return torch::nn::AnyModule(nn::SyncBatchNorm(name, options, group));
  };
}

NetworkImpl::NetworkImpl(const NormFactory& norms)
    : conv1_(Conv3x3(1, 16)),
      conv2_(Conv3x3(16, 32)),
      hidden_(torch::nn::LinearOptions(32 * 7 * 7, 32).bias(false)),
      output_(32, 10),
      norm1_(norms("norm1", 16, 4)),
      norm2_(norms("norm2", 32, 4)),
      norm3_(norms("norm3", 32, 2)) {
  // In the order of the forward pass: the last one's gradient is ready first.
  register_module("conv1", conv1_);
  register_module("norm1", norm1_.ptr());
  register_module("conv2", conv2_);
  register_module("norm2", norm2_.ptr());
  register_module("hidden", hidden_);
  register_module("norm3", norm3_.ptr());
  register_module("output", output_);
}

torch::Tensor NetworkImpl::forward(torch::Tensor x) {
  x = ReluAndHalve(norm1_.forward(conv1_(x)));
  x = ReluAndHalve(norm2_.forward(conv2_(x)));
  x = norm3_.forward(hidden_(x.flatten(1))).relu();
  return output_(x);
}

}  // namespace syncnorm::examples
