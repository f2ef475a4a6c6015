// A member that joins late continues from another one's state as if it had been there all along.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>
#include <syncnorm/power_norm.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "proto/layer_state.h"
#include "tests/support/compare.h"
#include "tests/support/host_tensor.h"
#include "tests/support/in_process_group.h"
#include "tests/support/moving_member.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kChannels = 3, kTokens = 8;

struct BatchNorm {
  using Norm = SyncBatchNorm;
  static constexpr Layout kLayout = Layout::kContiguous;
  static absl::Status Forward(Norm* norm, const ConstTensor& x, const Tensor& y,
                              Norm::Context* context) {
    return norm->Forward(x, nullptr, y, context);
  }
};

struct PowerNorm {
  using Norm = SyncPowerNorm;
  static constexpr Layout kLayout = Layout::kTokens;
  static absl::Status Forward(Norm* norm, const ConstTensor& x, const Tensor& y,
                              Norm::Context* context) {
    return norm->Forward(x, nullptr, y, context);
  }
};

// Every number that a member's step gives.
using Trace = std::vector<Numbers>;

// Steps `from` to `to`; step s has the data of (s, slice).  Weights move as an optimiser would
// move them, alike on all members.
template <typename Kind>
Trace Train(typename Kind::Norm* norm, int from, int to, int slice) {
  Trace trace;
  for (int s = from; s < to; ++s) {
    std::mt19937_64 random(100 * s + slice);
    const std::vector<int64_t> shape = {kTokens, kChannels};
    const HostTensor x(DType::kF64, shape, Kind::kLayout,
                       Normal(&random, kTokens * kChannels, 1, 2));
    const HostTensor dy(DType::kF64, shape, Kind::kLayout, Normal(&random, kTokens * kChannels));
    HostTensor y(DType::kF64, shape, Kind::kLayout), dx = y;
    typename Kind::Norm::Context context;
    absl::Status status = Kind::Forward(norm, x.tensor(), y.tensor(), &context);
    EXPECT_TRUE(status.ok()) << status;
    const Tensor dx_tensor = dx.tensor();
    typename Kind::Norm::Gradients gradients;
    status = norm->Backward(context, dy.tensor(), &dx_tensor, &gradients);
    EXPECT_TRUE(status.ok()) << status;
    for (double& weight : norm->weight()) weight *= 1 + 0.01 * s;
    for (double& bias : norm->bias()) bias -= 0.3;
    for (const Numbers& numbers :
         {y.Load(), dx.Load(), gradients.weight, gradients.bias, norm->weight()}) {
      trace.push_back(numbers);
    }
  }
  return trace;
}

// Two members train; a third one joins after `before` steps, handed rank 0's state.  Then it has
// the data that rank 0 has, and must give what rank 0 gives.
template <typename Kind, typename Options>
void ExpectContinues(const Options& options, int before) {
  using Norm = typename Kind::Norm;
  InProcessGroup two(2), three(3);
  std::vector<std::unique_ptr<MovingMember>> members(2);
  std::vector<std::unique_ptr<Norm>> norms(3);
  two.Run([&](int rank, Reducer* reducer) {
    members[rank] = std::make_unique<MovingMember>(reducer);
    norms[rank] = *Norm::Create("norm", options, members[rank].get());
    Train<Kind>(norms[rank].get(), 0, before, rank);
  });
  for (int rank = 0; rank < 2; ++rank) members[rank]->MoveTo(three.member(rank));
  const auto saved = two.state(0, "norm")->Save();
  ASSERT_TRUE(saved.ok()) << saved.status();
  ASSERT_TRUE(two.state(1, "norm")->Save().ok());
  EXPECT_EQ(*two.state(1, "norm")->Save(), *saved);  // all members would give the same
  three.HandOver("norm", *saved);
  std::vector<Trace> traces(3);
  std::vector<std::string> states(3);
  three.Run([&](int rank, Reducer* reducer) {
    if (rank == 2) norms[rank] = *Norm::Create("norm", options, reducer);
    traces[rank] = Train<Kind>(norms[rank].get(), before, before + 4, rank % 2);
    states[rank] = *norms[rank]->Save();
  });
  EXPECT_EQ(traces[2], traces[0]);
  EXPECT_EQ(states[2], states[0]);
  EXPECT_NE(states[2], *saved);
  norms.clear();  // before their members
}

TEST(HandOverTest, ABatchNormContinuesAsOneThatWasThereAllAlong) {
  for (std::optional<double> momentum : {std::optional<double>(0.1), std::optional<double>()}) {
    for (int before : {0, 1, 5}) {
      ExpectContinues<BatchNorm>(BatchNormOptions{.channels = kChannels, .momentum = momentum},
                                 before);
    }
  }
}

TEST(HandOverTest, ABatchNormWithoutRunningStatisticsHandsOverItsSteps) {
  ExpectContinues<BatchNorm>(
      BatchNormOptions{.channels = kChannels, .affine = false, .track_running_stats = false}, 3);
}

TEST(HandOverTest, APowerNormContinuesInTheMiddleOfWarmUpAndAfterIt) {
  for (PowerNormSemantics semantics :
       {PowerNormSemantics::kReference, PowerNormSemantics::kPaper}) {
    for (PowerNormSchedule schedule :
         {PowerNormSchedule::kDeferred, PowerNormSchedule::kBlocking}) {
      for (int before : {0, 2, 6}) {
        ExpectContinues<PowerNorm>(PowerNormOptions{.channels = kChannels,
                                                    .warmup_iters = 4,
                                                    .semantics = semantics,
                                                    .schedule = schedule},
                                   before);
      }
    }
  }
}

// A worker that lost its group and comes back has its layers still.
TEST(HandOverTest, ALayerThatIsThereTakesAnotherState) {
  InProcessGroup group(1);
  auto donor = *SyncBatchNorm::Create("donor", {.channels = kChannels}, nullptr);
  Train<BatchNorm>(donor.get(), 0, 3, 0);
  auto norm = *SyncBatchNorm::Create("norm", {.channels = kChannels}, group.member(0));
  ASSERT_TRUE(group.state(0, "norm")->Load(*donor->Save()).ok());
  EXPECT_EQ(norm->State(), donor->State());
}

// What is wrong, the text that says so, and that nothing moves.
template <typename Norm>
void ExpectRefused(Norm* norm, const std::string& bytes, const std::string& text) {
  const std::string before = *norm->Save();
  const absl::Status status = norm->Load(bytes);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("layer norm"), HasSubstr(text)));
  EXPECT_EQ(*norm->Save(), before);
}

template <typename Norm>
void ExpectBadEntriesRefused(Norm* norm, const std::string& values, const std::string& counter) {
  const wire::LayerState good = *wire::DecodeLayerState(*norm->Save());
  ExpectRefused(norm, "\x0a\xff", "are not a LayerState");
  ExpectRefused(norm, "", "the state lacks");
  wire::LayerState bad = good;
  bad[values].push_back(1);
  ExpectRefused(norm, wire::EncodeLayerState(bad), values + " has 4 values; it must have 3");
  bad = good;
  bad.erase(values);
  ExpectRefused(norm, wire::EncodeLayerState(bad), "lacks " + values);
  bad = good;
  bad["gamma"] = {1};
  ExpectRefused(norm, wire::EncodeLayerState(bad), "gamma");
  bad = good;
  bad[counter] = {-1};
  ExpectRefused(norm, wire::EncodeLayerState(bad), counter + " is -1");
  bad = good;
  bad.erase(counter);
  ExpectRefused(norm, wire::EncodeLayerState(bad), "lacks " + counter);
}

TEST(HandOverTest, ABadStateIsRefusedByNameAndChangesNothing) {
  auto batch = *SyncBatchNorm::Create("norm", {.channels = kChannels}, nullptr);
  ExpectBadEntriesRefused(batch.get(), "running_var", "steps");
  ExpectBadEntriesRefused(batch.get(), "weight", "num_batches_tracked");
  auto power = *SyncPowerNorm::Create("norm", {.channels = kChannels}, nullptr);
  ExpectBadEntriesRefused(power.get(), "ema_gz", "iters");
  ExpectRefused(batch.get(), *power->Save(), "steps");
  ExpectRefused(power.get(), *batch->Save(), "running_phi");
}

TEST(HandOverTest, ALayerThatRefusesItsStateIsNotCreatedAndItsNameStaysFree) {
  InProcessGroup group(1);
  group.HandOver("norm", "nonsense");
  const auto refused = SyncPowerNorm::Create("norm", {.channels = kChannels}, group.member(0));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("layer norm"));
  auto donor = *SyncPowerNorm::Create("norm", {.channels = kChannels}, nullptr);
  group.HandOver("norm", *donor->Save());
  const auto first = SyncPowerNorm::Create("norm", {.channels = kChannels}, group.member(0));
  EXPECT_TRUE(first.ok()) << first.status();
  // A second one of the name does not take the first one's place when it goes.
  for (int i = 0; i < 2; ++i) {
    const auto second = SyncPowerNorm::Create("norm", {.channels = kChannels}, group.member(0));
    EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  }
}

TEST(HandOverTest, APowerNormTellsAFailureThatSavingMetOnce) {
  std::mt19937_64 random(Seed(61));
  const HostTensor x(DType::kF64, {kTokens, kChannels}, Layout::kTokens,
                     Normal(&random, kTokens * kChannels));
  InProcessGroup group(2);
  group.FailRound(2, absl::AbortedError("rank 1 is lost"));
  group.Run([&](int, Reducer* reducer) {
    auto norm = *SyncPowerNorm::Create(
        "norm", {.channels = kChannels, .warmup_iters = 0, .semantics = PowerNormSemantics::kPaper},
        reducer);
    HostTensor y(DType::kF64, {kTokens, kChannels}, Layout::kTokens);
    const auto forward = [&] { return norm->Forward(x.tensor(), nullptr, y.tensor(), nullptr); };
    ASSERT_TRUE(forward().ok());
    ASSERT_TRUE(forward().ok());
    const auto saved = norm->Save();
    ASSERT_TRUE(saved.ok()) << saved.status();
    EXPECT_EQ(*norm->Save(), *saved);
    EXPECT_EQ(norm->State()->at("iters"), Numbers{1});
    EXPECT_EQ(forward().code(), absl::StatusCode::kAborted);
    EXPECT_TRUE(forward().ok());
    EXPECT_TRUE(norm->Drain().ok());
  });
}

TEST(HandOverTest, APowerNormWithStatisticsUnderWayRefusesAnotherState) {
  std::mt19937_64 random(Seed(62));
  const HostTensor x(DType::kF64, {kTokens, kChannels}, Layout::kTokens,
                     Normal(&random, kTokens * kChannels));
  InProcessGroup group(2);
  group.Run([&](int, Reducer* reducer) {
    auto norm = *SyncPowerNorm::Create("norm", {.channels = kChannels, .warmup_iters = 0}, reducer);
    const std::string state = *norm->Save();
    HostTensor y(DType::kF64, {kTokens, kChannels}, Layout::kTokens);
    ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), nullptr).ok());
    EXPECT_EQ(norm->Load(state).code(), absl::StatusCode::kFailedPrecondition);
    ASSERT_TRUE(norm->Drain().ok());
    EXPECT_TRUE(norm->Load(state).ok());
  });
}

}  // namespace
}  // namespace syncnorm::testing
