// The models of the peers' tests, with either PyTorch's batch norm or
// syncnorm's inside.  The two kinds have the same parameters and buffers under the same
// names, so that one's file loads into the other.
#pragma once

#include <syncnorm/batch_norm.h>
#include <syncnorm/reducer.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/any.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>

namespace syncnorm::testing {

// Makes a norm as a model's only one.
using NormMaker = std::function<torch::nn::AnyModule(const BatchNormOptions& options)>;

// PyTorch's batch norm, for inputs of any rank (its modules check for one each).
NormMaker TorchNorm();
NormMaker SyncNorm(Reducer* group);

// A model: its modules, and a forward over them.
class Model : public torch::nn::Module {
 public:
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;
};
using ModelMaker = std::function<std::shared_ptr<Model>(const NormMaker& norms)>;

// Linear(2, 40, no bias), (-1, 4, 10), batch norm of 4, Linear(40, 4), softmax.
ModelMaker BnNet(bool affine = true);
// A batch norm.
ModelMaker OnlyBn(int64_t channels, double momentum);
// Conv2d(2, 2, 3), batch norm of 2, Linear(28, 2).
ModelMaker ConvBnLinear();
// Conv2d(3, 6, 3), batch norm of 6.
ModelMaker ConvBn();

// The model saved to a file (in memory), and loaded again into one that `make` makes.
std::shared_ptr<Model> SavedAndLoaded(const std::shared_ptr<Model>& model, const ModelMaker& make,
                                      const NormMaker& norms);

}  // namespace syncnorm::testing
