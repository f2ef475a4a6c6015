// SyncBatchNorm as a module: names, files, types, modes, and what it says when misused.
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

BatchNormOptions Channels(int64_t channels) {
  BatchNormOptions options;
  options.channels = channels;
  return options;
}

// The code and text of the StatusError that `action` throws.
std::string ThrownBy(const std::function<void()>& action) {
  try {
    action();
  } catch (const nn::StatusError& error) {
    EXPECT_EQ(std::string(error.what_without_backtrace()),
              error.status().ToString(absl::StatusToStringMode::kWithNoExtraData));
    return error.what_without_backtrace();
  }
  return "nothing was thrown";
}

// Trains a module a little, so that no value is the initial one.
template <typename Module>
void Train(Module& module) {
  torch::manual_seed(6);
  torch::optim::SGD optimizer(module->parameters(), 0.1);
  for (int i = 0; i < 3; ++i) {
    optimizer.zero_grad();
    module->forward(torch::randn({8, 4}) * 3 + 1).pow(3).sum().backward();
    optimizer.step();
  }
}

template <typename To, typename From>
void CopyThroughFile(From& from, To& to) {
  std::stringstream file;
  torch::save(from, file);
  torch::load(to, file);
}

template <typename A, typename B>
void ExpectEqualEvaluation(A& a, B& b) {
  a->eval();
  b->eval();
  const torch::Tensor x = torch::randn({8, 4});
  ExpectClose(a->forward(x), b->forward(x), "evaluation", 1e-5, 1e-8);
}

TEST(BatchNormModule, HasThePyTorchNamesShapesAndTypes) {
  nn::SyncBatchNorm sync("bn", Channels(4), nullptr);
  torch::nn::BatchNorm1d torch_norm(4);
  const auto expect_same = [](const auto& ours, const auto& theirs) {
    ASSERT_EQ(ours.keys(), theirs.keys());
    for (const auto& item : theirs) {
      EXPECT_TRUE(ours[item.key()].equal(item.value())) << item.key();
      EXPECT_EQ(ours[item.key()].dtype(), item.value().dtype()) << item.key();
    }
  };
  expect_same(sync->named_parameters(), torch_norm->named_parameters());
  expect_same(sync->named_buffers(), torch_norm->named_buffers());
}

// apex's test_batchnorm1d: (8, 4), both ways, default allclose.
TEST(BatchNormModule, FilesGoFromPyTorchsModuleToOurs) {
  torch::nn::BatchNorm1d from(4);
  Train(from);
  nn::SyncBatchNorm to("bn", Channels(4), nullptr);
  CopyThroughFile(from, to);
  EXPECT_EQ(to->num_batches_tracked.item<int64_t>(), 3);
  ExpectEqualEvaluation(to, from);
}

TEST(BatchNormModule, FilesGoFromOursToPyTorchsModule) {
  nn::SyncBatchNorm from("bn", Channels(4), nullptr);
  Train(from);
  torch::nn::BatchNorm1d to(4);
  CopyThroughFile(from, to);
  EXPECT_EQ(to->num_batches_tracked.item<int64_t>(), 3);
  ExpectEqualEvaluation(to, from);
}

TEST(BatchNormModule, AFileOfAnotherTypeIsConverted) {
  nn::SyncBatchNorm from("bn", Channels(4), nullptr), to("bn", Channels(4), nullptr);
  Train(from);
  to->to(torch::kDouble);
  CopyThroughFile(from, to);
  EXPECT_EQ(to->weight.scalar_type(), torch::kDouble);
  EXPECT_TRUE(to->weight.equal(from->weight.to(torch::kDouble)));
  EXPECT_TRUE(to->running_var.equal(from->running_var.to(torch::kDouble)));
}

TEST(BatchNormModule, AFileOfAnotherShapeIsRefused) {
  nn::SyncBatchNorm from("bn", Channels(4), nullptr), to("bn", Channels(3), nullptr);
  EXPECT_NE(ThrownBy([&] { CopyThroughFile(from, to); }).find("weight has shape [4], not [3]"),
            std::string::npos);
}

TEST(BatchNormModule, TrainsAsPyTorchsModuleDoes) {
  nn::SyncBatchNorm sync("bn", Channels(4), nullptr);
  torch::nn::BatchNorm1d torch_norm(4);
  Train(sync);
  Train(torch_norm);
  ExpectClose(sync->parameters(), torch_norm->parameters(), "parameter");
  ExpectClose(sync->buffers(), torch_norm->buffers(), "buffer");
}

TEST(BatchNormModule, ARunThatResumesFromAFileContinuesBitForBit) {
  nn::SyncBatchNorm first("bn", Channels(4), nullptr), resumed("other", Channels(4), nullptr);
  Train(first);
  CopyThroughFile(first, resumed);
  Train(first);
  Train(resumed);
  for (size_t i = 0; i < first->buffers().size(); ++i) {
    EXPECT_TRUE(first->buffers()[i].equal(resumed->buffers()[i]));
  }
  EXPECT_TRUE(first->weight.equal(resumed->weight));
}

TEST(BatchNormModule, WritingToABufferTakesEffectAtTheNextForward) {
  nn::SyncBatchNorm norm("bn", Channels(2), nullptr);
  norm->running_mean.fill_(3);
  norm->running_var.fill_(4);
  norm->eval();
  ExpectClose(norm->forward(torch::full({1, 2}, 7.0)), torch::full({1, 2}, 2.0), "output");
}

TEST(BatchNormModule, HalfConvertsParametersAndKeepsTheStatistics) {
  nn::SyncBatchNorm norm("bn", Channels(2), nullptr);
  norm->running_mean.fill_(1.0001);
  norm->to(torch::kHalf);
  EXPECT_EQ(norm->weight.scalar_type(), torch::kHalf);
  EXPECT_EQ(norm->running_mean.scalar_type(), torch::kFloat);
  EXPECT_EQ(norm->running_mean[0].item<float>(), 1.0001f);
  norm->to(torch::kDouble);
  EXPECT_EQ(norm->weight.scalar_type(), torch::kDouble);
  EXPECT_EQ(norm->running_var.scalar_type(), torch::kDouble);
  EXPECT_EQ(norm->num_batches_tracked.scalar_type(), torch::kLong);
}

TEST(BatchNormModule, HalfInputsMayMeetFloatParameters) {
  nn::SyncBatchNorm norm("bn", Channels(2), nullptr);
  const torch::Tensor x = torch::randn({4, 2}).to(torch::kHalf).requires_grad_();
  const torch::Tensor y = norm->forward(x);
  y.backward(torch::ones_like(y));
  EXPECT_EQ(y.scalar_type(), torch::kHalf);
  EXPECT_EQ(x.grad().scalar_type(), torch::kHalf);
  EXPECT_EQ(norm->weight.grad().scalar_type(), torch::kFloat);
}

TEST(BatchNormModule, EvalAfterTrainingSendsNothing) {
  InProcessGroup group(2);
  RunWorkers(group, [](int rank, Reducer* member) {
    nn::SyncBatchNorm norm("bn", Channels(2), member);
    norm->forward(torch::randn({4, 2}));
    norm->eval();
    if (rank == 0) norm->forward(torch::randn({4, 2}));
  });
  EXPECT_EQ(group.completed(), 1u);
}

TEST(BatchNormModule, WithoutMomentumKeepsTheCumulativeAverage) {
  BatchNormOptions options = Channels(2);
  options.momentum = std::nullopt;
  RunWorkers(2, [&](int rank, Reducer* member) {
    nn::SyncBatchNorm norm("bn", options, member);
    for (int i = 0; i < 4; ++i) norm->forward(torch::full({1, 2}, i + 10.0 * rank));
    ExpectClose(norm->running_mean, torch::full({2}, 6.5), "running_mean");
    EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 4);
  });
}

TEST(BatchNormModule, WithoutStatisticsHasNoBuffers) {
  BatchNormOptions options = Channels(2);
  options.track_running_stats = false;
  options.affine = false;
  nn::SyncBatchNorm norm("bn", options, nullptr);
  EXPECT_TRUE(norm->buffers().empty());
  EXPECT_TRUE(norm->parameters().empty());
  norm->eval();
  const torch::Tensor y = norm->forward(torch::randn({16, 2}));
  ExpectClose(y.mean(0), torch::zeros({2}), "mean");
}

TEST(BatchNormModule, WorksInASequential) {
  torch::nn::Sequential model(torch::nn::Linear(3, 2),
                              nn::SyncBatchNorm("bn", Channels(2), nullptr));
  EXPECT_EQ(model->forward(torch::randn({4, 3})).size(1), 2);
}

TEST(BatchNormModule, PrintsWhatItIs) {
  std::stringstream text;
  text << *nn::SyncBatchNorm("conv1.bn", Channels(64), nullptr);
  EXPECT_EQ(text.str(),
            "syncnorm::nn::SyncBatchNorm(conv1.bn, 64, eps=1e-05, momentum=0.1, affine=true, "
            "track_running_stats=true)");
}

TEST(BatchNormModule, MisuseIsThrownAsAStatusThatNamesTheLayer) {
  nn::SyncBatchNorm norm("conv1.bn", Channels(2), nullptr);
  const auto forward = [&](const torch::Tensor& x, const torch::Tensor& mask = {}) {
    return ThrownBy([&] { norm->forward(x, mask); });
  };
  EXPECT_EQ(forward({}), "INVALID_ARGUMENT: conv1.bn: input is undefined");
  EXPECT_EQ(forward(torch::zeros({4, 2}, torch::kInt)),
            "INVALID_ARGUMENT: conv1.bn: input has type Int; supported are Float, Double, Half "
            "and BFloat16");
  EXPECT_EQ(forward(torch::zeros({4, 2}, torch::TensorOptions(torch::kMeta))),
            "INVALID_ARGUMENT: conv1.bn: input is on meta; only CPU tensors are supported");
  EXPECT_NE(forward(torch::zeros({4, 3})).find("conv1.bn"), std::string::npos);
  EXPECT_NE(forward(torch::zeros({4})).find("conv1.bn"), std::string::npos);
  EXPECT_NE(forward(torch::zeros({4, 2}), torch::ones({3})).find("conv1.bn"), std::string::npos);
  EXPECT_NE(forward(torch::zeros({4, 2}), torch::ones({4}, torch::kInt)).find("mask has type Int"),
            std::string::npos);
  EXPECT_NE(ThrownBy([] { nn::SyncBatchNorm bad("bn", Channels(0), nullptr); }).find("channels"),
            std::string::npos);
  EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 0);
}

TEST(BatchNormModule, NamesAreUniqueInAGroup) {
  InProcessGroup group(1);
  nn::SyncBatchNorm norm("bn", Channels(2), group.member(0));
  EXPECT_NE(ThrownBy([&] {
              nn::SyncBatchNorm again("bn", Channels(2), group.member(0));
            }).find("ALREADY_EXISTS"),
            std::string::npos);
}

TEST(BatchNormModule, AFailedRoundIsThrownOutOfForward) {
  InProcessGroup group(2);
  group.FailRound(1, absl::DeadlineExceededError("rank 1 is missing"));
  RunWorkers(group, [](int, Reducer* member) {
    nn::SyncBatchNorm norm("bn", Channels(2), member);
    EXPECT_NE(ThrownBy([&] {
                norm->forward(torch::randn({4, 2}));
              }).find("rank 1 is missing"),
              std::string::npos);
  });
}

}  // namespace
}  // namespace syncnorm::testing
