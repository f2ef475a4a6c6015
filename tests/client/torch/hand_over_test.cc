// A module in a member that joins late: its tensors start from the others' state, and training
// goes on with their bits.
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/torch.h>
#include <torch/torch.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/client/torch/workers.h"
#include "tests/support/moving_member.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kTokens = 12, kChannels = 6;

torch::Tensor Random(uint64_t seed, torch::Dtype dtype) {
  return at::randn({kTokens, kChannels}, at::make_generator<at::CPUGeneratorImpl>(seed),
                   torch::kDouble)
      .to(dtype);
}

// Steps `from` to `to`, all that they compute.
template <typename Norm>
std::vector<torch::Tensor> Train(Norm& norm, int from, int to, int slice) {
  std::vector<torch::Tensor> trace;
  const torch::Dtype dtype = norm->weight.scalar_type();
  for (int s = from; s < to; ++s) {
    norm->zero_grad();
    const torch::Tensor x = (Random(10 * s + slice, dtype) * 2 + 1).detach().requires_grad_();
    const torch::Tensor y = norm->forward(x);
    y.backward(Random(1000 + 10 * s + slice, dtype));
    trace.insert(trace.end(), {y.detach().clone(), x.grad().clone(), norm->weight.grad().clone(),
                               norm->bias.grad().clone()});
    // As an optimiser would move them, alike on all members.
    const torch::NoGradGuard no_grad;
    norm->weight.mul_(1.01);
    norm->bias.sub_(0.3);
    for (const torch::Tensor& tensor : norm->parameters()) trace.push_back(tensor.clone());
  }
  return trace;
}

// Two members train; a third one joins after `before` steps, handed rank 0's state.  Then it has
// the data that rank 0 has, and must give what rank 0 gives.  `changed`: what the trainer
// does to rank 0's and 1's modules from outside before.
template <typename Norm, typename Options>
void ExpectContinues(
    const Options& options, torch::Dtype dtype, int before,
    const std::function<void(Norm&)>& changed = [](Norm&) {}) {
  InProcessGroup two(2), three(3);
  std::vector<std::unique_ptr<MovingMember>> members(3);
  std::vector<Norm> norms(3, nullptr);
  RunWorkers(two, [&](int rank, Reducer* group) {
    members[rank] = std::make_unique<MovingMember>(group);
    norms[rank] = Norm("norm", options, members[rank].get());
    norms[rank]->to(dtype);
    Train(norms[rank], 0, before, rank);
  });
  for (int rank = 0; rank < 2; ++rank) {
    members[rank]->MoveTo(three.member(rank));
    changed(norms[rank]);
  }
  const auto saved = two.state(0, "norm")->Save();
  ASSERT_TRUE(saved.ok()) << saved.status();
  three.HandOver("norm", *saved);
  norms[2] = Norm("norm", options, three.member(2));
  norms[2]->to(dtype);
  const auto expect_same_tensors = [&] {
    const auto late = norms[2]->named_parameters(), here = norms[0]->named_parameters();
    for (const auto& item : here) EXPECT_TRUE(item.value().equal(late[item.key()])) << item.key();
    const auto late_buffers = norms[2]->named_buffers();
    for (const auto& item : norms[0]->named_buffers()) {
      EXPECT_TRUE(item.value().equal(late_buffers[item.key()])) << item.key();
    }
  };
  expect_same_tensors();
  std::vector<std::vector<torch::Tensor>> traces(3);
  RunWorkers(three, [&](int rank, Reducer*) {
    traces[rank] = Train(norms[rank], before, before + 4, rank % 2);
    norms[rank]->eval();
  });
  ASSERT_EQ(traces[2].size(), traces[0].size());
  for (size_t i = 0; i < traces[0].size(); ++i) {
    EXPECT_TRUE(traces[2][i].equal(traces[0][i])) << "tensor " << i;
  }
  expect_same_tensors();
  norms.clear();  // before their members
}

TEST(TorchHandOverTest, ABatchNormStartsFromTheOthersStateAndContinues) {
  for (const auto dtype : {torch::kFloat, torch::kDouble, torch::kBFloat16}) {
    for (const int before : {0, 3}) {
      SCOPED_TRACE(::testing::Message() << dtype << " after " << before);
      ExpectContinues<nn::SyncBatchNorm>(BatchNormOptions{.channels = kChannels}, dtype, before);
      ExpectContinues<nn::SyncBatchNorm>(
          BatchNormOptions{.channels = kChannels, .momentum = std::nullopt}, dtype, before);
    }
  }
}

TEST(TorchHandOverTest, APowerNormStartsFromTheOthersStateAndContinues) {
  for (const auto semantics : {PowerNormSemantics::kReference, PowerNormSemantics::kPaper}) {
    for (const auto dtype : {torch::kFloat, torch::kDouble}) {
      for (const int before : {0, 2, 6}) {
        SCOPED_TRACE(::testing::Message() << dtype << " after " << before);
        ExpectContinues<nn::SyncPowerNorm>(
            PowerNormOptions{.channels = kChannels, .warmup_iters = 4, .semantics = semantics},
            dtype, before);
      }
    }
  }
}

TEST(TorchHandOverTest, WhatTheTensorsHoldIsHandedOver) {
  ExpectContinues<nn::SyncBatchNorm>(BatchNormOptions{.channels = kChannels}, torch::kFloat, 2,
                                     [](nn::SyncBatchNorm& norm) {
                                       const torch::NoGradGuard no_grad;
                                       norm->running_mean.fill_(0.25);
                                       norm->weight.fill_(3);
                                     });
  ExpectContinues<nn::SyncPowerNorm>(PowerNormOptions{.channels = kChannels, .warmup_iters = 1},
                                     torch::kFloat, 3, [](nn::SyncPowerNorm& norm) {
                                       const torch::NoGradGuard no_grad;
                                       norm->Drain();
                                       norm->running_phi.fill_(2);
                                       norm->bias.fill_(-1);
                                     });
}

TEST(TorchHandOverTest, AnInitialisationAfterItIsNotUndoneByAConversion) {
  InProcessGroup group(1);
  InProcessGroup giving(1);
  nn::SyncBatchNorm given("norm", BatchNormOptions{.channels = kChannels}, giving.member(0));
  given->to(torch::kDouble);
  Train(given, 0, 2, 0);
  group.HandOver("norm", *giving.state(0, "norm")->Save());
  nn::SyncBatchNorm norm("norm", BatchNormOptions{.channels = kChannels}, group.member(0));
  {
    const torch::NoGradGuard no_grad;
    norm->weight.fill_(5);
  }
  norm->to(torch::kDouble);
  EXPECT_TRUE(norm->weight.eq(5).all().item<bool>());
  EXPECT_TRUE(norm->running_mean.equal(given->running_mean));
}

TEST(TorchHandOverTest, AModuleThatIsThereTakesAnotherState) {
  InProcessGroup group(2);
  nn::SyncPowerNorm donor("donor", PowerNormOptions{.channels = kChannels}, group.member(0));
  nn::SyncPowerNorm norm("norm", PowerNormOptions{.channels = kChannels}, group.member(1));
  donor->running_phi.fill_(4);
  const auto state = group.state(0, "donor")->Save();
  ASSERT_TRUE(state.ok()) << state.status();
  ASSERT_TRUE(group.state(1, "norm")->Load(*state).ok());
  EXPECT_TRUE(norm->running_phi.eq(4).all().item<bool>());
  norm->eval();
  EXPECT_TRUE(norm->running_phi.eq(4).all().item<bool>());
}

TEST(TorchHandOverTest, ATensorThatCannotBeReadIsAStatusThatNamesIt) {
  InProcessGroup group(1);
  nn::SyncBatchNorm batch("batch", BatchNormOptions{.channels = kChannels}, group.member(0));
  nn::SyncPowerNorm power("power", PowerNormOptions{.channels = kChannels}, group.member(0));
  const auto expect_refused = [&](const std::string& layer, const std::string& text) {
    const auto state = group.state(0, layer)->Save();
    EXPECT_EQ(state.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(state.status().message()),
                AllOf(HasSubstr("layer " + layer), HasSubstr(text)));
  };
  batch->running_mean.set_data(torch::zeros({2}));
  expect_refused("batch", "running_mean");
  power->running_phi.set_data(torch::zeros({2}, torch::kDouble));
  expect_refused("power", "running_phi");
  batch->running_mean.set_data(torch::zeros({kChannels}, torch::kComplexFloat));
  expect_refused("batch", "ComplexFloat");
}

}  // namespace
}  // namespace syncnorm::testing
