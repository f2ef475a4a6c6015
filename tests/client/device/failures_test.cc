// What goes wrong later than a call: a failed round, a wrong mask, a group that is gone.  What
// depends on it is NaN, no statistic moves, it is told once, and the stream goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Truly;

constexpr int64_t kChannels = 3, kPositions = 8;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const auto kIsNan = Truly([](double number) { return std::isnan(number); });

template <typename Kind>
class DeviceFailuresTest : public ::testing::Test {
 protected:
  std::mt19937_64 random_{Seed(151)};
  const NormData data_{&random_, kPositions, kChannels};
};
TYPED_TEST_SUITE(DeviceFailuresTest, BothKinds);

TYPED_TEST(DeviceFailuresTest, AFailedForwardIsNanMovesNothingIsToldOnceAndTheNextIsFine) {
  for (const bool by_next_call : {false, true}) {
    for (const StreamWaiting waiting :
         {StreamWaiting::kStreamMemory, StreamWaiting::kHostFunction}) {
      InProcessGroup group(2);
      group.FailRound(3, absl::DeadlineExceededError("rank 1 is missing"));
      group.Run([&](int, Reducer* member) {
        const auto reducer = OnStreams(member, {.waiting = waiting});
        NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
        const NormResult first = norm.Step(this->data_);
        const NormState before = norm.Drained();
        const auto call = norm.Prepare(this->data_);
        ASSERT_TRUE(norm.Forward(call.get()).ok());
        norm.stream().Synchronize();
        const absl::Status told = by_next_call ? norm.Backward(call.get()) : norm->Check();
        EXPECT_EQ(told, absl::DeadlineExceededError("rank 1 is missing"));
        EXPECT_TRUE(norm->Check().ok()) << "once";
        EXPECT_TRUE(reducer->Check().ok()) << "once";
        EXPECT_THAT(call->LoadY(), Each(kIsNan));
        EXPECT_EQ(norm.Drained(), before);
        // The same step, once more.
        EXPECT_THAT(norm.Step(this->data_).y, Each(Not(kIsNan)));
        EXPECT_EQ(norm.Drained().at(TypeParam::kCounter), Numbers{2});
      });
    }
  }
}

TYPED_TEST(DeviceFailuresTest, AFailedBackwardIsToldOnceAndMovesNoStatisticOfItsOwn) {
  InProcessGroup group(2);
  group.FailRound(2, absl::AbortedError("rank 1 is gone"));
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
    const auto call = norm.Prepare(this->data_);
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    ASSERT_TRUE(norm.Backward(call.get()).ok());
    ASSERT_TRUE(norm.Drain().ok());
    norm.stream().Synchronize();
    EXPECT_EQ(reducer->Check(), absl::AbortedError("rank 1 is gone"));
    EXPECT_TRUE(norm->Check().ok()) << "once";
    if constexpr (std::is_same_v<TypeParam, BatchNormKind>) {
      EXPECT_THAT(call->Load().dx, Each(kIsNan));
    } else {
      EXPECT_EQ(norm.State().at("ema_gz"), Numbers(kChannels, 0));
    }
    EXPECT_EQ(norm.State().at(TypeParam::kCounter), Numbers{1});
    EXPECT_THAT(norm.Step(this->data_).dx, Each(Not(kIsNan)));
  });
}

// With kPaper in warm-up the gradient needs this step's own statistic; with kReference after it,
// the forward's.
TEST(DevicePowerNormFailuresTest, AGradientWhoseStatisticFailedIsNan) {
  std::mt19937_64 random(Seed(152));
  const NormData data(&random, kPositions, kChannels);
  const struct {
    PowerNormSemantics semantics;
    int64_t warmup;
    uint64_t failing;
  } cases[] = {{PowerNormSemantics::kPaper, 9, 2}, {PowerNormSemantics::kReference, 0, 1}};
  for (const auto& now : cases) {
    InProcessGroup group(2);
    group.FailRound(now.failing, absl::AbortedError("rank 1 is gone"));
    // Held until both rounds are enqueued, so that the failure comes out of neither call.
    group.Hold();
    Meeting meeting(2);
    group.Run([&](int, Reducer* member) {
      const auto reducer = OnStreams(member);
      NormOnDevice<PowerNormKind> norm(
          {.channels = kChannels, .warmup_iters = now.warmup, .semantics = now.semantics},
          reducer.get());
      const auto call = norm.Prepare(data);
      ASSERT_TRUE(norm.Forward(call.get()).ok());
      ASSERT_TRUE(norm.Backward(call.get()).ok());
      meeting.Wait();
      group.Release();
      norm.stream().Synchronize();
      EXPECT_THAT(call->Load().dx, Each(kIsNan));
      EXPECT_EQ(norm->Check(), absl::AbortedError("rank 1 is gone"));
      EXPECT_EQ(norm.Drained().at("ema_gz"), Numbers(kChannels, 0));
    });
  }
}

TYPED_TEST(DeviceFailuresTest, FailuresOfLayersAreTheirOwnAndTheReducerHasTheOldest) {
  InProcessGroup group(2);
  group.FailRound(1, absl::AbortedError("first"));
  group.FailRound(2, absl::AbortedError("second"));
  group.FailRound(3, absl::AbortedError("third"));
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<TypeParam> a(TypeParam::Of(kChannels), reducer.get(), DType::kF64, "a");
    NormOnDevice<TypeParam> b(TypeParam::Of(kChannels), reducer.get(), DType::kF64, "b");
    NormOnDevice<TypeParam> c(TypeParam::Of(kChannels), reducer.get(), DType::kF64, "c");
    for (auto* norm : {&a, &b, &c}) {
      const auto call = norm->Prepare(this->data_);
      ASSERT_TRUE(norm->Forward(call.get()).ok());
      norm->stream().Synchronize();
    }
    EXPECT_EQ(b->Check(), absl::AbortedError("second"));
    EXPECT_EQ(reducer->Check(), absl::AbortedError("first"));
    EXPECT_EQ(reducer->Check(), absl::AbortedError("third"));
    for (auto* norm : {&a, &b, &c}) EXPECT_TRUE((*norm)->Check().ok());
  });
}

TYPED_TEST(DeviceFailuresTest, AWrongMaskIsNanMovesNothingAndNamesThePosition) {
  for (int world : {1, 2}) {
    SCOPED_TRACE(world);
    InProcessGroup group(world);
    group.Run([&](int rank, Reducer* member) {
      // The local path takes no group's word.
      const auto reducer = world == 1 ? nullptr : OnStreams(member);
      NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
      norm.Step(this->data_);
      const NormState before = norm.Drained();
      NormData wrong = this->data_;
      wrong.mask.assign(kPositions, 1);
      wrong.mask[5] = 2;
      wrong.mask[6] = 77;
      const auto call = norm.Prepare(wrong);
      if (rank == 0) {
        ASSERT_TRUE(norm.Forward(call.get()).ok());
        norm.stream().Synchronize();
        const absl::Status told = norm->Check();
        EXPECT_EQ(told.code(), absl::StatusCode::kInvalidArgument);
        EXPECT_THAT(std::string(told.message()),
                    AllOf(HasSubstr("layer norm"), HasSubstr("mask"), HasSubstr("position 5")));
        EXPECT_TRUE(norm->Check().ok()) << "once";
        EXPECT_THAT(call->LoadY(), Contains(kIsNan));
        EXPECT_EQ(norm.Drained(), before);
      }
      // The members have sent as many rounds, and go on.
      EXPECT_THAT(norm.Step(this->data_).y, Each(Not(kIsNan)));
      EXPECT_EQ(norm.Drained().at(TypeParam::kCounter), Numbers{2});
    });
    if (world == 2) {
      EXPECT_EQ(group.submitted(0), group.submitted(1));
    }
  }
}

TEST(DeviceBatchNormFailuresTest, AMaskOfFloatsIsCheckedToo) {
  std::mt19937_64 random(Seed(153));
  const NormData data(&random, kPositions, 200);
  for (const bool training : {true, false}) {
    for (const float bad : {2.0f, 0.5f, kNan}) {
      NormOnDevice<BatchNormKind> norm({.channels = 200}, nullptr);
      norm->set_training(training);
      std::vector<float> values(kPositions, 1);
      values[3] = bad;
      const DeviceBytes on_device(norm.stream(), values.data(), values.size() * sizeof(float));
      const PositionMask mask{on_device.data(), PositionMask::Type::kF32, {kPositions}};
      const auto call = norm.Prepare(data);
      const NormState before = norm.State();
      ASSERT_TRUE(norm->Forward(call->x(), &mask, call->y(), nullptr, norm.stream().get()).ok());
      EXPECT_THAT(call->LoadY(), Contains(kIsNan));
      EXPECT_THAT(std::string(norm->Check().message()),
                  AllOf(HasSubstr("layer norm"), HasSubstr("position 3")));
      EXPECT_EQ(norm.State(), before);
      // The block that it used does not remember.
      norm.Step(data);
      EXPECT_TRUE(norm->Check().ok());
    }
  }
}

TYPED_TEST(DeviceFailuresTest, AGroupThatIsGoneLeavesALocalLayer) {
  InProcessGroup group(2);
  Meeting meeting(2);
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
    NormOnDevice<TypeParam> alone(TypeParam::Of(kChannels), nullptr);
    norm.Step(this->data_);
    norm.Drained();
    meeting.Wait();
    group.Disconnect();
    EXPECT_FALSE(norm->need_sync());
    const uint64_t rounds = reducer->counters().rounds;
    EXPECT_THAT(norm.Step(this->data_).y, Each(Not(kIsNan)));
    EXPECT_EQ(reducer->counters().rounds, rounds);
    EXPECT_EQ(norm.Drained().at(TypeParam::kCounter), Numbers{2});
  });
}

// Both norms take blocks of one size from one pool.
TEST(DeviceFailuresOfBothTest, ABlockOfAFailedPowerNormServesABatchNorm) {
  std::mt19937_64 random(Seed(155));
  const NormData data(&random, kPositions, kChannels);
  InProcessGroup group(2);
  group.FailRound(1, absl::AbortedError("rank 1 is gone"));
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<PowerNormKind> power({.channels = kChannels, .kept_forwards = 0}, reducer.get(),
                                      DType::kF64, "power");
    NormOnDevice<BatchNormKind> batch({.channels = kChannels, .kept_forwards = 0}, reducer.get(),
                                      DType::kF64, "batch");
    {
      const auto call = power.Prepare(data);
      ASSERT_TRUE(power.Forward(call.get()).ok());
      power.stream().Synchronize();
      EXPECT_FALSE(power->Check().ok());
    }
    for (int s = 1; s <= 3; ++s) {
      batch.Step(data);
      EXPECT_EQ(batch.State().at("num_batches_tracked"), Numbers{static_cast<double>(s)});
    }
  });
}

// A statistic under way when the group goes comes out of the next call, as on the CPU.
TEST(DevicePowerNormFailuresTest, ALostConnectionIsToldByTheStatisticsUnderWay) {
  std::mt19937_64 random(Seed(154));
  const NormData data(&random, kPositions, kChannels);
  InProcessGroup group(2);
  group.FailRound(1, absl::UnavailableError("the coordinator is gone"));
  Meeting meeting(2);
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<PowerNormKind> norm(
        {.channels = kChannels, .warmup_iters = 0, .semantics = PowerNormSemantics::kPaper},
        reducer.get());
    const auto call = norm.Prepare(data);
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    meeting.Wait();
    group.Disconnect();
    while (reducer->counters().results < 1) std::this_thread::yield();
    EXPECT_EQ(norm.Forward(call.get()), absl::UnavailableError("the coordinator is gone"));
    EXPECT_TRUE(norm.Forward(call.get()).ok());  // local from now on
    EXPECT_EQ(norm.Drained().at("iters"), Numbers{1});
  });
}

}  // namespace
}  // namespace syncnorm::testing
