// Parity with PyTorch's batch norm on the concatenated batch, with fairscale's shapes, seeds
// and default bounds; and Flax's test of masks.
#include <gtest/gtest.h>
#include <syncnorm/torch.h>
#include <torch/torch.h>

#include <limits>
#include <vector>

#include "tests/client/torch/models.h"
#include "tests/client/torch/workers.h"

namespace syncnorm::testing {
namespace {

// assert_allclose of torch.testing for float32.
constexpr double kParityRtol = 1.3e-6, kParityAtol = 1e-5;

// Rank r: seed r, scaled by r, so that rank 0 has zeros only.
void RunParity(int world, torch::IntArrayRef shape, bool scaled) {
  std::vector<torch::Tensor> slices;
  for (int rank = 0; rank < world; ++rank) {
    torch::manual_seed(rank);
    slices.push_back(torch::randn(shape) * (scaled ? rank : 1));
  }
  // In float64: the gradient of the bias is a sum that cancels, which float32 gives to 2e-5.
  const torch::Tensor x = torch::cat(slices).to(torch::kDouble).requires_grad_();
  const auto whole = OnlyBn(3, 0.1)(TorchNorm());
  whole->to(torch::kDouble);
  const torch::Tensor y = whole->forward(x);
  y.pow(3).sum().backward();
  const auto expected = whole->parameters();
  RunWorkers(world, [&](int rank, Reducer* group) {
    const auto model = OnlyBn(3, 0.1)(SyncNorm(group));
    const torch::Tensor slice = slices[rank].clone().requires_grad_();
    const torch::Tensor output = model->forward(slice);
    output.pow(3).sum().backward();
    SumGradients(model->parameters(), 1, 0, group);
    const int64_t n = shape[0];
    ExpectClose(output, y.narrow(0, rank * n, n), "output", kParityRtol, kParityAtol);
    ExpectClose(slice.grad(), x.grad().narrow(0, rank * n, n), "grad of input", kParityRtol,
                kParityAtol);
    for (size_t i = 0; i < expected.size(); ++i) {
      ExpectClose(model->parameters()[i].grad(), expected[i].grad(), "grad of parameter",
                  kParityRtol, kParityAtol);
    }
    ExpectClose(model->buffers(), whole->buffers(), "buffer", kParityRtol, kParityAtol);
  });
}

TEST(Parity, ThreeDimensions) { RunParity(3, {4, 3, 4}, false); }
TEST(Parity, FourDimensionsWithAWorkerOfZeros) { RunParity(3, {4, 3, 4, 4}, true); }
TEST(Parity, FiveDimensionsWithAWorkerOfZeros) { RunParity(3, {4, 3, 4, 4, 4}, true); }

TEST(Parity, MaskedPositionsMayBeNan) {
  torch::manual_seed(2);
  // Flax's (4, 3, 2) with channels last is (4, 2, 3) here; different counts on the two workers.
  const torch::Tensor x = torch::randn({4, 2, 3}) * 3 + 5;
  const torch::Tensor valid = torch::tensor({1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 1}).view({4, 3});
  const torch::Tensor poisoned =
      x.masked_fill(valid.eq(0).unsqueeze(1), std::numeric_limits<float>::quiet_NaN());
  std::vector<torch::Tensor> outputs(2);
  for (const auto type : {torch::kBool, torch::kByte, torch::kFloat, torch::kDouble}) {
    RunWorkers(2, [&](int rank, Reducer* group) {
      BatchNormOptions options;
      options.channels = 2;
      nn::SyncBatchNorm norm("bn", options, group);
      outputs[rank] =
          norm->forward(poisoned.narrow(0, 2 * rank, 2), valid.to(type).narrow(0, 2 * rank, 2));
    });
    const torch::Tensor y = torch::cat(outputs).transpose(1, 2).reshape({-1, 2});
    const torch::Tensor kept = y.index_select(0, valid.flatten().nonzero().flatten());
    ExpectClose(kept.mean(0), torch::zeros({2}), "mean", 0, 1e-4);
    ExpectClose(kept.var(0, /*unbiased=*/false), torch::ones({2}), "var", 1e-4, 0);
    EXPECT_EQ(y.isnan().sum().item<int64_t>(), 0);
  }
}

}  // namespace
}  // namespace syncnorm::testing
