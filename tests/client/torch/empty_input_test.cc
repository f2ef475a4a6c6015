// Workers without data: the two tests of PyTorch's test_c10d_common.py, with their
// models and sizes, and what those do not look at: running statistics.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <vector>

#include "tests/client/torch/models.h"
#include "tests/client/torch/workers.h"

namespace syncnorm::testing {
namespace {

void ExpectNoNan(const torch::Tensor& tensor) {
  EXPECT_FALSE(tensor.isnan().any().item<bool>()) << tensor;
}

// One forward and backward.
void RunStep(Model& model, const torch::Tensor& data, bool requires_grad) {
  model.zero_grad();
  const torch::Tensor x = data.clone().requires_grad_(requires_grad);
  const torch::Tensor y = model.forward(x);
  EXPECT_EQ(y.size(0), x.size(0));
  ExpectNoNan(y);
  y.sum().backward();
  for (const torch::Tensor& parameter : model.parameters()) ExpectNoNan(parameter.grad());
  if (requires_grad) {
    EXPECT_EQ(x.grad().sizes(), x.sizes());
    ExpectNoNan(x.grad());
  }
}

std::vector<torch::Tensor> Copies(const std::vector<torch::Tensor>& tensors) {
  std::vector<torch::Tensor> copies;
  for (const torch::Tensor& tensor : tensors) copies.push_back(tensor.clone());
  return copies;
}

void RunSteps(const ModelMaker& make, torch::IntArrayRef empty, torch::IntArrayRef full) {
  for (const bool requires_grad : {false, true}) {
    RunWorkers(3, [&](int rank, Reducer* group) {
      const auto model = make(SyncNorm(group));
      RunStep(*model, torch::zeros(rank == 0 ? empty : full), requires_grad);
      const std::vector<torch::Tensor> before = Copies(model->buffers());
      RunStep(*model, torch::zeros(empty), requires_grad);
      const std::vector<torch::Tensor> after = model->buffers();
      for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(before[i].equal(after[i]));
    });
  }
}

TEST(EmptyInput, ABatchNormAloneTakesPartWithNothing) {
  RunSteps(OnlyBn(2, 0.1), {0, 2, 11, 13}, {1, 2, 11, 13});
}

TEST(EmptyInput, ANetworkOfConvolutionAndLinearTakesPartWithNothing) {
  RunSteps(ConvBnLinear(), {0, 2, 30, 30}, {3, 2, 30, 30});
}

TEST(EmptyInput, TheOthersSeeTheirOwnBatchAsTheWhole) {
  torch::manual_seed(5);
  const torch::Tensor x = torch::randn({3, 2, 5, 7});
  const torch::Tensor expected = OnlyBn(2, 0.1)(TorchNorm())->forward(x);
  RunWorkers(2, [&](int rank, Reducer* group) {
    const auto model = OnlyBn(2, 0.1)(SyncNorm(group));
    const torch::Tensor y = model->forward(x.narrow(0, 0, rank == 0 ? 0 : 3));
    if (rank == 1) ExpectClose(y, expected, "output");
  });
}

}  // namespace
}  // namespace syncnorm::testing
