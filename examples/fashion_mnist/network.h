// The network of the example: two convolutions and two linear layers, with a
// batch norm after every layer but the last; 55,418 parameters.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/reducer.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include <functional>
#include <string>

namespace syncnorm::examples {

// Makes the norm called `name`, of `channels`, for inputs of `dimensions` dimensions.
using NormFactory =
    std::function<torch::nn::AnyModule(const std::string& name, int64_t channels, int dimensions)>;

// PyTorch's own BatchNorm1d and BatchNorm2d.
NormFactory TorchNorms();
// syncnorm's, over `group`, which must outlive the network.
NormFactory SyncNorms(Reducer* group);

// Networks made after the same torch::manual_seed have the same parameters,
// and files of one can be loaded into the other, whatever their norms.
class NetworkImpl : public torch::nn::Module {
 public:
  explicit NetworkImpl(const NormFactory& norms);

  // (N, 1, 28, 28) -> (N, 10)
  torch::Tensor forward(torch::Tensor x);

 private:
  torch::nn::Conv2d conv1_, conv2_;
  torch::nn::Linear hidden_, output_;
  torch::nn::AnyModule norm1_, norm2_, norm3_;
};
TORCH_MODULE(Network);

}  // namespace syncnorm::examples
