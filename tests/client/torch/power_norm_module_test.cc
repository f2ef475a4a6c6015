// SyncPowerNorm as a module: equal to one worker with the whole batch, in training, through
// files and in evaluation.
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <syncnorm/torch.h>
#include <torch/torch.h>

#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/client/torch/workers.h"

namespace syncnorm::testing {
namespace {

constexpr int64_t kTime = 5, kBatch = 4, kChannels = 6;

PowerNormOptions Options(PowerNormSemantics semantics = PowerNormSemantics::kReference) {
  PowerNormOptions options;
  options.channels = kChannels;
  options.warmup_iters = 3;
  options.groups = 2;
  options.semantics = semantics;
  return options;
}

// A generator of its own: the workers are threads.
torch::Tensor Random(uint64_t seed) {
  return at::randn({kTime, kBatch, kChannels}, at::make_generator<at::CPUGeneratorImpl>(seed),
                   torch::kDouble);
}
torch::Tensor Input(int step) { return Random(100 + step) * (1 + 0.1 * step); }
torch::Tensor Gradient(int step) { return Random(200 + step); }
// (B, T): the second half of the batch is shorter.
torch::Tensor Padding() {
  torch::Tensor padding = torch::zeros({kBatch, kTime}, torch::kBool);
  padding.narrow(0, 2, 2).narrow(1, 3, 2).fill_(true);
  return padding;
}

struct Step {
  torch::Tensor y, dx, d_weight, d_bias;
};

// `size` sequences of the batch from `begin` on, for one step.
Step TrainStep(nn::SyncPowerNorm& norm, int step, int64_t begin, int64_t size, double scale = 1) {
  norm->zero_grad();
  const torch::Tensor x = Input(step).narrow(1, begin, size).clone().requires_grad_();
  const torch::Tensor y = norm->forward(x, Padding().narrow(0, begin, size));
  y.backward(Gradient(step).narrow(1, begin, size) * scale);
  return {y, x.grad(), norm->weight.grad().clone(), norm->bias.grad().clone()};
}

void ExpectEqualsOneWorker(PowerNormSemantics semantics, PowerNormSchedule schedule) {
  PowerNormOptions options = Options(semantics);
  options.schedule = schedule;
  nn::SyncPowerNorm whole("whole", options, nullptr);
  whole->to(torch::kDouble);
  std::vector<Step> expected;
  for (int i = 0; i < 8; ++i) expected.push_back(TrainStep(whole, i, 0, kBatch));
  whole->Drain();
  RunWorkers(2, [&](int rank, Reducer* group) {
    nn::SyncPowerNorm norm("pn", options, group);
    norm->to(torch::kDouble);
    for (int i = 0; i < 8; ++i) {
      const Step step = TrainStep(norm, i, 2 * rank, 2);
      ExpectClose(step.y, expected[i].y.narrow(1, 2 * rank, 2), "y", 1e-12, 1e-12);
      ExpectClose(step.dx, expected[i].dx.narrow(1, 2 * rank, 2), "dx", 1e-11, 1e-12);
      SumGradients(norm->parameters(), 1, i, group);
      ExpectClose(norm->weight.grad(), expected[i].d_weight, "weight", 1e-12, 1e-12);
      ExpectClose(norm->bias.grad(), expected[i].d_bias, "bias", 1e-12, 1e-12);
    }
    norm->eval();
    ExpectClose(norm->buffers(), whole->buffers(), "buffer", 1e-12, 1e-12);
  });
}

TEST(PowerNormModule, ReferenceSemanticsOnTwoWorkersEqualOneWorker) {
  ExpectEqualsOneWorker(PowerNormSemantics::kReference, PowerNormSchedule::kDeferred);
  ExpectEqualsOneWorker(PowerNormSemantics::kReference, PowerNormSchedule::kBlocking);
}

TEST(PowerNormModule, PaperSemanticsOnTwoWorkersEqualOneWorker) {
  ExpectEqualsOneWorker(PowerNormSemantics::kPaper, PowerNormSchedule::kDeferred);
  ExpectEqualsOneWorker(PowerNormSemantics::kPaper, PowerNormSchedule::kBlocking);
}

TEST(PowerNormModule, TheFirstForwardDividesByTheQuadraticMean) {
  PowerNormOptions options = Options();
  options.groups = 1;
  nn::SyncPowerNorm norm("pn", options, nullptr);
  const torch::Tensor x = Input(0).to(torch::kFloat);
  const torch::Tensor scaled = x * (x.square().mean(2, true) + 1e-5).rsqrt();
  const torch::Tensor expected =
      scaled * (scaled.square().mean(torch::IntArrayRef({0, 1}), true) + 1e-5).rsqrt();
  ExpectClose(norm->forward(x), expected, "output");
  const torch::Tensor flat = x.reshape({-1, kChannels});
  nn::SyncPowerNorm two_dimensional("pn2", options, nullptr);
  ExpectClose(two_dimensional->forward(flat), expected.reshape({-1, kChannels}), "output");
}

TEST(PowerNormModule, HasTheAuthorsNamesAndShapes) {
  nn::SyncPowerNorm norm("pn", Options(), nullptr);
  EXPECT_EQ(norm->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(norm->named_buffers().keys(),
            (std::vector<std::string>{"running_phi", "ema_gz", "iters"}));
  EXPECT_EQ(norm->running_phi.sizes(), torch::IntArrayRef({1, kChannels, 1, 1}));
  EXPECT_EQ(norm->ema_gz.sizes(), torch::IntArrayRef({1, kChannels, 1, 1}));
  EXPECT_EQ(norm->iters.scalar_type(), torch::kLong);
  EXPECT_TRUE(norm->running_phi.eq(1).all().item<bool>());
  EXPECT_TRUE(norm->ema_gz.eq(0).all().item<bool>());
}

TEST(PowerNormModule, SavingDrainsAndARunThatResumesContinuesBitForBit) {
  RunWorkers(2, [](int rank, Reducer* group) {
    nn::SyncPowerNorm norm("pn", Options(), group), resumed("resumed", Options(), group);
    norm->to(torch::kDouble);
    resumed->to(torch::kDouble);
    for (int i = 0; i < 6; ++i) TrainStep(norm, i, 2 * rank, 2);
    std::stringstream file;
    torch::save(norm, file);
    EXPECT_EQ(norm->iters.item<int64_t>(), 6);
    torch::load(resumed, file);
    for (int i = 6; i < 9; ++i) {
      const Step a = TrainStep(norm, i, 2 * rank, 2);
      const Step b = TrainStep(resumed, i, 2 * rank, 2);
      EXPECT_TRUE(a.y.equal(b.y));
      EXPECT_TRUE(a.dx.equal(b.dx));
    }
    norm->eval();
    resumed->eval();
    EXPECT_TRUE(norm->running_phi.equal(resumed->running_phi));
    EXPECT_TRUE(norm->ema_gz.equal(resumed->ema_gz));
  });
}

TEST(PowerNormModule, WhatIsWrittenToOneBufferLeavesTheOthersTheirStatisticsUnderWay) {
  RunWorkers(2, [&](int rank, Reducer* group) {
    nn::SyncPowerNorm norm("pn", Options(), group), twin("twin", Options(), group);
    for (int i = 0; i < 5; ++i) {
      TrainStep(norm, i, 2 * rank, 2);
      TrainStep(twin, i, 2 * rank, 2);
    }
    norm->running_phi.fill_(4.0);
    norm->Drain();
    twin->Drain();
    EXPECT_TRUE(
        torch::equal(norm->running_phi, torch::full({1, kChannels, 1, 1}, 4.0, at::kDouble)));
    EXPECT_TRUE(torch::equal(norm->ema_gz, twin->ema_gz));
    EXPECT_EQ(norm->iters.item<int64_t>(), 5);
  });
}

TEST(PowerNormModule, AFloat32CheckpointOfTheAuthorsLoads) {
  nn::SyncPowerNorm norm("pn", Options(), nullptr);
  // The authors' module, as far as a file shows it.
  auto authors = std::make_shared<torch::nn::Module>("MaskPowerNorm");
  authors->register_parameter("weight", torch::full({kChannels}, 2.0));
  authors->register_parameter("bias", torch::full({kChannels}, 0.5));
  authors->register_buffer("running_phi", torch::full({1, kChannels, 1, 1}, 4.0));
  authors->register_buffer("ema_gz", torch::full({1, kChannels, 1, 1}, 0.25));
  authors->register_buffer("iters", torch::full({1}, 70, torch::kLong));
  std::stringstream file;
  torch::save(authors, file);
  torch::load(norm, file);
  norm->eval();
  const torch::Tensor ones = torch::ones({2, kChannels});  // the group scaling leaves them ones
  ExpectClose(norm->forward(ones), torch::full({2, kChannels}, 1.5), "output", 0, 1e-4);
  norm->train();
  norm->forward(ones);
  norm->Drain();
  EXPECT_EQ(norm->iters.item<int64_t>(), 71);
  ExpectClose(norm->running_phi.flatten(), torch::full({kChannels}, 0.9 * 4 + 0.1), "phi", 0, 1e-4);
}

TEST(PowerNormModule, TheLossScaleDoesNotChangeTheState) {
  nn::SyncPowerNorm plain("plain", Options(), nullptr), scaled("scaled", Options(), nullptr);
  plain->to(torch::kDouble);
  scaled->to(torch::kDouble);
  scaled->set_grad_scale(1024);
  for (int i = 0; i < 5; ++i) {
    const Step a = TrainStep(plain, i, 0, kBatch);
    const Step b = TrainStep(scaled, i, 0, kBatch, 1024);
    ExpectClose(b.dx / 1024, a.dx, "dx", 1e-12, 1e-14);
  }
  plain->Drain();
  scaled->Drain();
  ExpectClose(scaled->ema_gz, plain->ema_gz, "ema_gz", 1e-12, 1e-14);
}

TEST(PowerNormModule, TheStateKeepsFloat64WhateverTheParametersBecome) {
  nn::SyncPowerNorm norm("pn", Options(), nullptr);
  norm->to(torch::kHalf);
  EXPECT_EQ(norm->weight.scalar_type(), torch::kHalf);
  EXPECT_EQ(norm->running_phi.scalar_type(), torch::kDouble);
  const torch::Tensor x = Input(0).to(torch::kHalf).requires_grad_();
  const torch::Tensor y = norm->forward(x);
  y.backward(torch::ones_like(y));
  EXPECT_EQ(y.scalar_type(), torch::kHalf);
  EXPECT_EQ(x.grad().scalar_type(), torch::kHalf);
  EXPECT_EQ(norm->weight.grad().scalar_type(), torch::kHalf);
}

TEST(PowerNormModule, AfterWarmUpEvaluationOnOneWorkerDoesNotHang) {
  RunWorkers(2, [](int rank, Reducer* group) {
    nn::SyncPowerNorm norm("pn", Options(), group);
    norm->to(torch::kDouble);
    for (int i = 0; i < 5; ++i) TrainStep(norm, i, 2 * rank, 2);
    norm->eval();
    if (rank == 0) norm->forward(Input(9));
  });
}

TEST(PowerNormModule, APadMaskOfAnotherShapeIsRefused) {
  nn::SyncPowerNorm norm("pn", Options(), nullptr);
  const torch::Tensor x = Input(0);
  EXPECT_THROW(norm->forward(x, torch::zeros({kTime, kBatch}, torch::kBool)), nn::StatusError);
  EXPECT_THROW(norm->forward(x, torch::zeros({kBatch, kTime})), nn::StatusError);
  EXPECT_NO_THROW(norm->forward(x, torch::zeros({kBatch, kTime}, torch::kByte)));
}

}  // namespace
}  // namespace syncnorm::testing
