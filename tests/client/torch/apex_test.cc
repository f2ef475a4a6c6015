// apex's tests of its synchronised batch norm, with their sizes, seeds and bounds; the
// reference is PyTorch's batch norm in float64 on the whole batch.
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <syncnorm/torch.h>
#include <torch/torch.h>

#include <thread>
#include <vector>

#include "tests/client/torch/models.h"
#include "tests/client/torch/workers.h"

namespace syncnorm::testing {
namespace {

constexpr int64_t kChannels = 10;

struct Whole {
  torch::Tensor x, grad, weight, bias;  // float64
  torch::Tensor y, dx, d_weight, d_bias, mean, var;
};

// x and grad as they are in `dtype`, and what float64 makes of them.  The generator is its own:
// two threads that seed LibTorch's one get data of neither seed.
Whole Reference(uint64_t seed, int64_t n, int64_t side, torch::Dtype dtype) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const auto random = [&](at::IntArrayRef shape) { return at::randn(shape, generator); };
  const auto rounded = [&](const torch::Tensor& t) { return t.to(dtype).to(torch::kDouble); };
  Whole w;
  w.x = rounded(random({n, kChannels, side, side}) * 3 + random({1, kChannels, 1, 1}));
  w.grad = rounded(random({n, kChannels, side, side}));
  w.weight = rounded(random({kChannels}));
  w.bias = rounded(random({kChannels}));
  w.mean = torch::zeros({kChannels}, torch::kDouble);
  w.var = torch::ones({kChannels}, torch::kDouble);
  const torch::Tensor x = w.x.clone().requires_grad_();
  const torch::Tensor weight = w.weight.clone().requires_grad_();
  const torch::Tensor bias = w.bias.clone().requires_grad_();
  const torch::Tensor y =
      torch::batch_norm(x, weight, bias, w.mean, w.var, true, /*momentum=*/1.0, 1e-5, false);
  y.backward(w.grad);
  w.y = y.detach();
  w.dx = x.grad();
  w.d_weight = weight.grad();
  w.d_bias = bias.grad();
  return w;
}

// One worker's slice [begin, begin + size) of the batch, over `group` of any size.
void ExpectEqualsSlice(const Whole& whole, int64_t begin, int64_t size, torch::Dtype dtype,
                       double bound, bool channels_last, Reducer* group) {
  BatchNormOptions options;
  options.channels = kChannels;
  options.momentum = 1.0;
  nn::SyncBatchNorm norm("bn", options, group);
  // Parameters of float16 tensors stay float32, as in mixed precision.
  if (dtype == torch::kDouble) norm->to(dtype);
  {
    const torch::NoGradGuard no_grad;
    norm->weight.copy_(whole.weight);
    norm->bias.copy_(whole.bias);
  }
  const auto format =
      channels_last ? torch::MemoryFormat::ChannelsLast : torch::MemoryFormat::Contiguous;
  const auto slice = [&](const torch::Tensor& t) { return t.narrow(0, begin, size); };
  const torch::Tensor x = slice(whole.x).to(dtype).contiguous(format).requires_grad_();
  const torch::Tensor y = norm->forward(x);
  EXPECT_TRUE(y.is_contiguous(format));
  y.backward(slice(whole.grad).to(dtype));
  ExpectClose(y, slice(whole.y), "output", bound, bound);
  EXPECT_TRUE(x.grad().is_contiguous(format));
  ExpectClose(x.grad(), slice(whole.dx), "grad of input", bound, bound);
  ExpectClose(norm->running_mean, whole.mean, "running_mean", bound, bound);
  ExpectClose(norm->running_var, whole.var, "running_var", bound, bound);
  // A step of SGD with learning rate 1, on the average of the workers' gradients.
  const int world = group == nullptr ? 1 : group->world_size();
  if (group != nullptr) SumGradients(norm->parameters(), 1.0 / world, 0, group);
  ExpectClose(norm->weight - norm->weight.grad(), whole.weight - whole.d_weight / world,
              "weight after a step", bound, bound);
  ExpectClose(norm->bias - norm->bias.grad(), whole.bias - whole.d_bias / world,
              "bias after a step", bound, bound);
}

TEST(Apex, SingleWorkerUnitTest) {
  const Whole whole = Reference(1, 5, 16, torch::kFloat);
  for (const bool channels_last : {false, true}) {
    ExpectEqualsSlice(whole, 0, 5, torch::kFloat, 1e-5, channels_last, nullptr);
  }
}

void RunTwoWorkers(uint64_t seed, torch::Dtype dtype, double bound) {
  const Whole whole = Reference(seed, 32, 40, dtype);
  for (const bool channels_last : {false, true}) {
    RunWorkers(2, [&](int rank, Reducer* group) {
      ExpectEqualsSlice(whole, 16 * rank, 16, dtype, bound, channels_last, group);
    });
  }
}

TEST(Apex, TwoWorkersUnitTestInFloat32) { RunTwoWorkers(18, torch::kFloat, 1e-5); }
TEST(Apex, TwoWorkersUnitTestInFloat64) { RunTwoWorkers(18, torch::kDouble, 1e-8); }
TEST(Apex, TwoWorkersUnitTestInFloat16) { RunTwoWorkers(18, torch::kHalf, 1e-3); }

TEST(Apex, TwoGroupsOfTwoAreIndependent) {
  std::thread other([] { RunTwoWorkers(19, torch::kFloat, 1e-5); });
  RunTwoWorkers(18, torch::kFloat, 1e-5);
  other.join();
}

TEST(Apex, TwoWorkersWithDifferentBatchSizes) {
  torch::manual_seed(2809);
  const std::vector<torch::Tensor> x = {torch::randn({16, 3, 8, 8}) * 50,
                                        torch::randn({8, 3, 8, 8})};
  const torch::Tensor grad = torch::randint(0, 10, {24, 6, 6, 6}).to(torch::kFloat) / 10;
  const std::shared_ptr<Model> initial = ConvBn()(TorchNorm());
  const auto whole = SavedAndLoaded(initial, ConvBn(), TorchNorm());
  whole->to(torch::kDouble);
  whole->forward(torch::cat(x).to(torch::kDouble)).backward(grad.to(torch::kDouble) / 24);
  RunWorkers(2, [&](int rank, Reducer* group) {
    const auto model = SavedAndLoaded(initial, ConvBn(), SyncNorm(group));
    model->forward(x[rank]).backward(grad.narrow(0, 16 * rank, x[rank].size(0)) * 2 / 24);
    SumGradients(model->parameters(), 0.5, 0, group);
    const auto expected = whole->named_parameters();
    for (const auto& parameter : model->named_parameters()) {
      const double bound = parameter.key() == "norm.weight" ? 1e-6 : 1e-5;
      ExpectClose(parameter.value().grad(), expected[parameter.key()].grad(), parameter.key(),
                  bound, bound);
    }
  });
}

}  // namespace
}  // namespace syncnorm::testing
