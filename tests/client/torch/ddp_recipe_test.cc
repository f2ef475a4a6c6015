// The five-iteration equivalence of PyTorch's distributed_test.py, with its models,
// sizes and bounds: a model on whole batches and one worker per slice of them
// have the same parameters after every step.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <memory>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/client/torch/models.h"
#include "tests/client/torch/workers.h"

namespace syncnorm::testing {
namespace {

struct Recipe {
  ModelMaker model;
  torch::Tensor input, target;  // of the global batch
  std::vector<int64_t> local_batches;
  int iterations = 5;
};

// param += param.grad, as the peer does.
void Step(const std::vector<torch::Tensor>& parameters) {
  const torch::NoGradGuard no_grad;
  for (torch::Tensor parameter : parameters) {
    parameter.add_(parameter.grad());
    parameter.mutable_grad().reset();
  }
}

// The loss is scaled before the backward, not the gradients after it: within it the batch norms
// sum over the workers.
void Backward(Model& model, const torch::Tensor& input, const torch::Tensor& target, double scale) {
  (torch::mse_loss(model.forward(input), target) * scale).backward();
}

void RunRecipe(const Recipe& recipe) {
  const int world = static_cast<int>(recipe.local_batches.size());
  const int64_t global_batch =
      std::accumulate(recipe.local_batches.begin(), recipe.local_batches.end(), int64_t{0});
  ASSERT_EQ(recipe.input.size(0), global_batch);

  torch::manual_seed(1);
  const std::shared_ptr<Model> initial = recipe.model(TorchNorm());
  // The whole batches first: what every worker is held against.
  std::vector<torch::Tensor> inputs, targets;
  std::vector<std::vector<torch::Tensor>> expected;
  const auto whole = SavedAndLoaded(initial, recipe.model, TorchNorm());
  for (int i = 0; i < recipe.iterations; ++i) {
    torch::manual_seed(1337 + i);
    const torch::Tensor order = torch::randperm(global_batch);
    inputs.push_back(
        recipe.input.index_select(0, order).contiguous(recipe.input.suggest_memory_format()));
    targets.push_back(recipe.target.index_select(0, order));
    Backward(*whole, inputs[i], targets[i], 1);
    Step(whole->parameters());
    expected.emplace_back();
    for (const torch::Tensor& p : whole->parameters()) expected[i].push_back(p.detach().clone());
  }
  const auto buffers = whole->buffers();

  RunWorkers(world, [&](int rank, Reducer* group) {
    const auto model = SavedAndLoaded(initial, recipe.model, SyncNorm(group));
    const int64_t begin = std::accumulate(recipe.local_batches.begin(),
                                          recipe.local_batches.begin() + rank, int64_t{0});
    const int64_t size = recipe.local_batches[rank];
    for (int i = 0; i < recipe.iterations; ++i) {
      Backward(*model, inputs[i].narrow(0, begin, size), targets[i].narrow(0, begin, size),
               static_cast<double>(size) / global_batch);
      SumGradients(model->parameters(), 1, i, group);
      Step(model->parameters());
      ExpectClose(model->parameters(), expected[i],
                  absl::StrCat("rank ", rank, " iteration ", i, " parameter"));
    }
    ExpectClose(model->buffers(), buffers, absl::StrCat("rank ", rank, " buffer"));
  });
}

torch::Tensor Random(torch::IntArrayRef shape) {
  torch::manual_seed(7);
  return torch::randn(shape);
}

TEST(DdpRecipe, BnNetOnTwoWorkersEqualsTheWholeBatch) {
  RunRecipe({BnNet(), Random({4, 2}), torch::randn({4, 4}), {2, 2}});
}

TEST(DdpRecipe, BnNetOnFourWorkersEqualsTheWholeBatch) {
  RunRecipe({BnNet(), Random({8, 2}), torch::randn({8, 4}), {2, 2, 2, 2}});
}

TEST(DdpRecipe, BnNetWithoutAffineEqualsTheWholeBatch) {
  RunRecipe({BnNet(/*affine=*/false), Random({8, 2}), torch::randn({8, 4}), {2, 2, 2, 2}, 2});
}

TEST(DdpRecipe, TwoDimensionalInputEqualsTheWholeBatch) {
  RunRecipe({OnlyBn(2, 0.99), Random({8, 2}), torch::randn({8, 2}), {2, 2, 2, 2}});
}

TEST(DdpRecipe, ASingleInputPerWorkerEqualsTheWholeBatch) {
  RunRecipe({OnlyBn(2, 0.99), Random({4, 2}), torch::randn({4, 2}), {1, 1, 1, 1}});
}

TEST(DdpRecipe, ChannelsLastEqualsTheWholeBatch) {
  RunRecipe({OnlyBn(2, 0.99),
             Random({4, 2, 4, 4}).contiguous(torch::MemoryFormat::ChannelsLast),
             torch::randn({4, 2, 4, 4}),
             {2, 2}});
}

TEST(DdpRecipe, ChannelsLast3dEqualsTheWholeBatch) {
  RunRecipe({OnlyBn(2, 0.99),
             Random({4, 2, 4, 4, 4}).contiguous(torch::MemoryFormat::ChannelsLast3d),
             torch::randn({4, 2, 4, 4, 4}),
             {2, 2}});
}

TEST(DdpRecipe, GradientsOfDifferentBatchSizesEqualTheWholeBatchs) {
  RunRecipe({BnNet(), Random({5, 2}), torch::randn({5, 4}), {2, 3}});
  RunRecipe({BnNet(), Random({14, 2}), torch::randn({14, 4}), {2, 3, 4, 5}});
}

// Rank i: (2, 2, 10^(i+1)), constant in each channel.
void RunDifferentSizes(int world, std::vector<float> mean, std::vector<float> var) {
  RunWorkers(world, [&](int rank, Reducer* group) {
    const auto model = OnlyBn(2, 0.99)(SyncNorm(group));
    torch::Tensor x = torch::empty({2, 2, static_cast<int64_t>(std::pow(10, rank + 1))});
    x.select(1, 0).fill_(std::pow(0.1, rank - 1));
    x.select(1, 1).fill_(std::pow(0.3, rank - 1));
    x.requires_grad_();
    for (int i = 0; i < 100; ++i) model->forward(x).mean().backward();
    const auto buffers = model->named_buffers();
    ExpectClose(buffers["norm.running_mean"], torch::tensor(mean), "mean");
    ExpectClose(buffers["norm.running_var"], torch::tensor(var), "var");
  });
}

TEST(DdpRecipe, RunningStatisticsOfDifferentSizesAreThoseOfTheConcatenation) {
  RunDifferentSizes(2, {1.8181818f, 1.2121212f}, {6.7247821f, 0.4520087f});
  RunDifferentSizes(3, {0.2702703f, 0.3903904f}, {0.9273717f, 0.1189202f});
}

TEST(DdpRecipe, HalfGivesHalfOutputsAndGradients) {
  const auto same = [](const torch::Tensor& t) { return t.scalar_type() == torch::kBFloat16; };
  // LibTorch multiplies bfloat16 matrices on the CPU, but not float16 ones.
  RunWorkers(2, [&](int, Reducer* group) {
    const auto model = BnNet()(SyncNorm(group));
    model->to(torch::kBFloat16);
    const torch::Tensor y = model->forward(torch::randn({2, 2}, torch::kBFloat16));
    y.mean().backward();
    EXPECT_TRUE(same(y));
    for (const torch::Tensor& p : model->parameters()) EXPECT_TRUE(same(p.grad()));
  });
  RunWorkers(2, [](int, Reducer* group) {
    const auto model = OnlyBn(2, 0.1)(SyncNorm(group));
    model->to(torch::kHalf);
    const torch::Tensor x = torch::randn({2, 2}).to(torch::kHalf).requires_grad_();
    const torch::Tensor y = model->forward(x);
    y.backward(torch::ones({2, 2}, torch::kHalf));
    EXPECT_EQ(y.scalar_type(), torch::kHalf);
    EXPECT_EQ(x.grad().scalar_type(), torch::kHalf);
    for (const torch::Tensor& p : model->parameters()) {
      EXPECT_EQ(p.grad().scalar_type(), torch::kHalf);
    }
    for (const torch::Tensor& b : model->buffers()) EXPECT_NE(b.scalar_type(), torch::kHalf);
  });
}

TEST(DdpRecipe, InferenceOnRankZeroAloneEqualsLocalAndDoesNotHang) {
  torch::manual_seed(3);
  const torch::Tensor x = torch::randn({10, 2, 4, 4});
  RunWorkers(2, [&](int rank, Reducer* group) {
    const auto model = OnlyBn(2, 0.1)(SyncNorm(group));
    const auto local = OnlyBn(2, 0.1)(TorchNorm());
    model->eval();
    local->eval();
    for (int i = 0; rank == 0 && i < 6; ++i) {
      ExpectClose(model->forward(x), local->forward(x), "output");
    }
  });
}

}  // namespace
}  // namespace syncnorm::testing
