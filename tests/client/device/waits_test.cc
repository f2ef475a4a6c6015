// When a stream waits, and that the host never does.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

constexpr int64_t kChannels = 4, kPositions = 6;

using Semantics = PowerNormSemantics;
using Schedule = PowerNormSchedule;

// A limit that no test should meet.
void AwaitResults(const DeviceReducer& reducer) {
  ASSERT_TRUE(reducer.WaitForResults(absl::Seconds(20)));
}

struct Case {
  Semantics semantics;
  Schedule schedule;
  uint64_t in_warm_up, after;  // waits a step, where the CPU waits after each call
};
const Case kCases[] = {{Semantics::kReference, Schedule::kDeferred, 1, 0},
                       {Semantics::kPaper, Schedule::kDeferred, 2, 0},
                       {Semantics::kReference, Schedule::kBlocking, 2, 2},
                       {Semantics::kPaper, Schedule::kBlocking, 2, 2}};

TEST(DevicePowerNormWaitsTest, AfterWarmUpAStreamWaitsForNothingThatHasCome) {
  constexpr int kWarmup = 3, kSteps = 8;
  std::mt19937_64 random(Seed(101));
  const NormData data[2] = {{&random, kPositions, kChannels}, {&random, kPositions, kChannels}};
  for (const Case& now : kCases) {
    InProcessGroup group(2);
    Meeting meeting(2);
    group.Run([&](int rank, Reducer* member) {
      const auto reducer = OnStreams(member);
      NormOnDevice<PowerNormKind> norm({.channels = kChannels,
                                        .warmup_iters = kWarmup,
                                        .semantics = now.semantics,
                                        .schedule = now.schedule},
                                       reducer.get());
      // Both members' moments are there before either goes on, and the result after that.
      const auto wait = [&] {
        norm.stream().Synchronize();
        meeting.Wait();
        AwaitResults(*reducer);
        meeting.Wait();
      };
      const auto call = norm.Prepare(data[rank]);
      for (int s = 0; s < kSteps; ++s) {
        const uint64_t before = reducer->counters().stream_waits;
        group.Hold();  // no result before the call is made
        meeting.Wait();
        ASSERT_TRUE(norm.Forward(call.get()).ok());
        meeting.Wait();
        group.Release();
        wait();
        group.Hold();
        meeting.Wait();
        ASSERT_TRUE(norm.Backward(call.get()).ok());
        meeting.Wait();
        group.Release();
        wait();
        EXPECT_EQ(reducer->counters().stream_waits - before,
                  s < kWarmup ? now.in_warm_up : now.after)
            << "step " << s;
      }
      const uint64_t waits = reducer->counters().stream_waits;
      EXPECT_EQ(norm.Drained().at("iters"), Numbers{kSteps});
      EXPECT_EQ(reducer->counters().stream_waits, waits);
    });
  }
}

TEST(DevicePowerNormWaitsTest, ACpuThatRunsAheadCostsAtMostOneWaitAStatistic) {
  constexpr int kSteps = 20;
  std::mt19937_64 random(Seed(102));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    std::vector<std::vector<NormData>> data(2);
    for (auto& steps : data) {
      for (int s = 0; s < kSteps; ++s) steps.emplace_back(&random, kPositions, kChannels);
    }
    const PowerNormOptions options{
        .channels = kChannels, .warmup_iters = 4, .semantics = semantics};
    std::vector<std::vector<NormResult>> ahead(2), stepwise(2);
    std::vector<NormState> ahead_states(2), stepwise_states(2);
    InProcessGroup one(2), two(2);
    one.Run([&](int rank, Reducer* member) {
      const auto reducer = OnStreams(member);
      NormOnDevice<PowerNormKind> norm(options, reducer.get());
      std::vector<std::unique_ptr<NormOnDevice<PowerNormKind>::Call>> calls;
      for (const NormData& step : data[rank]) calls.push_back(norm.Prepare(step));
      for (const auto& call : calls) {
        ASSERT_TRUE(norm.Forward(call.get()).ok());
        ASSERT_TRUE(norm.Backward(call.get()).ok());
      }
      ahead_states[rank] = norm.Drained();
      EXPECT_EQ(reducer->counters().rounds, 2u * kSteps);
      EXPECT_LE(reducer->counters().stream_waits, 2u * kSteps);
      for (const auto& call : calls) ahead[rank].push_back(call->Load());
    });
    two.Run([&](int rank, Reducer* member) {
      const auto reducer = OnStreams(member);
      NormOnDevice<PowerNormKind> norm(options, reducer.get());
      for (const NormData& step : data[rank]) stepwise[rank].push_back(norm.Step(step));
      stepwise_states[rank] = norm.Drained();
    });
    EXPECT_EQ(ahead, stepwise);
    EXPECT_EQ(ahead_states, stepwise_states);
  }
}

// Nobody gives a result out until all has been enqueued: a call that waited would never return.
template <typename Kind>
class DeviceHostWaitsTest : public ::testing::Test {};
TYPED_TEST_SUITE(DeviceHostWaitsTest, BothKinds);

TYPED_TEST(DeviceHostWaitsTest, TheHostEnqueuesManyStepsBeforeTheFirstResultIsThere) {
  for (const StreamWaiting waiting : {StreamWaiting::kStreamMemory, StreamWaiting::kHostFunction}) {
    std::mt19937_64 random(Seed(103));
    const NormData data(&random, kPositions, kChannels, true);
    InProcessGroup group(2);
    Meeting meeting(2);
    group.Hold();
    group.Run([&](int, Reducer* member) {
      const auto reducer = OnStreams(member, {.waiting = waiting});
      NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
      std::vector<std::unique_ptr<typename NormOnDevice<TypeParam>::Call>> calls;
      for (int s = 0; s < 6; ++s) calls.push_back(norm.Prepare(data));
      for (const auto& call : calls) {
        ASSERT_TRUE(norm.Forward(call.get()).ok());
        ASSERT_TRUE(norm.Backward(call.get()).ok());
      }
      EXPECT_EQ(reducer->counters().results, 0u);
      EXPECT_EQ(cudaStreamQuery(norm.stream().get()), cudaErrorNotReady);
      meeting.Wait();
      group.Release();
      EXPECT_EQ(norm.Drained().at(TypeParam::kCounter), Numbers{6});
      EXPECT_TRUE(norm->Check().ok());
    });
    EXPECT_EQ(group.completed(), 12u);
  }
}

}  // namespace
}  // namespace syncnorm::testing
