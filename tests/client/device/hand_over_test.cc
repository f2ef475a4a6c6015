// A layer on a device saves and loads what one on the CPU does, and a member that joins late
// continues as if it had been there all along.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"
#include "tests/support/moving_member.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kChannels = 3, kPositions = 8;

// Of (step, slice).
NormData DataOf(int step, int slice) {
  std::mt19937_64 random(100 * step + slice);
  return {&random, kPositions, kChannels};
}

template <typename Kind>
class DeviceHandOverTest : public ::testing::Test {};
TYPED_TEST_SUITE(DeviceHandOverTest, BothKinds);

TYPED_TEST(DeviceHandOverTest, TheStateIsExchangedWithALayerOnTheHost) {
  NormOnDevice<TypeParam> device(TypeParam::Of(kChannels), nullptr);
  NormOnHost<TypeParam> host(TypeParam::Of(kChannels), nullptr);
  EXPECT_EQ(*device->Save(), *host->Save());
  for (int s = 0; s < 3; ++s) host.Step(DataOf(s, 0));
  ASSERT_TRUE(device->Load(*host->Save()).ok());
  EXPECT_EQ(device.State(), host.Drained());
  EXPECT_EQ(*device->Save(), *host->Save());
  device.Step(DataOf(3, 0));
  NormOnHost<TypeParam> back(TypeParam::Of(kChannels), nullptr);
  ASSERT_TRUE(back->Load(*device->Save()).ok());
  EXPECT_EQ(back.Drained(), device.State());
}

// Two members train on devices; a third one joins after some steps, handed rank 0's state.  Then it
// has the data that rank 0 has, and must give what rank 0 gives.
TYPED_TEST(DeviceHandOverTest, ALateMemberContinuesBitForBit) {
  for (int before : {0, 1, 5}) {
    InProcessGroup two(2), three(3);
    std::vector<std::unique_ptr<MovingMember>> members(2);
    std::vector<std::unique_ptr<DeviceReducer>> reducers(3);
    std::vector<std::unique_ptr<NormOnDevice<TypeParam>>> norms(3);
    two.Run([&](int rank, Reducer* member) {
      members[rank] = std::make_unique<MovingMember>(member);
      reducers[rank] = OnStreams(members[rank].get());
      norms[rank] =
          std::make_unique<NormOnDevice<TypeParam>>(TypeParam::Of(kChannels), reducers[rank].get());
      for (int s = 0; s < before; ++s) norms[rank]->Step(DataOf(s, rank));
      norms[rank]->Drained();
    });
    for (int rank = 0; rank < 2; ++rank) members[rank]->MoveTo(three.member(rank));
    const auto saved = two.state(0, "norm")->Save();
    ASSERT_TRUE(saved.ok()) << saved.status();
    EXPECT_EQ(*two.state(1, "norm")->Save(), *saved);  // all members would give the same
    three.HandOver("norm", *saved);
    std::vector<std::vector<NormResult>> results(3);
    std::vector<std::string> states(3);
    three.Run([&](int rank, Reducer* member) {
      if (rank == 2) {
        reducers[2] = OnStreams(member);
        norms[2] =
            std::make_unique<NormOnDevice<TypeParam>>(TypeParam::Of(kChannels), reducers[2].get());
      }
      for (int s = before; s < before + 4; ++s) {
        results[rank].push_back(norms[rank]->Step(DataOf(s, rank % 2)));
      }
      states[rank] = *(*norms[rank])->Save();
    });
    EXPECT_EQ(results[2], results[0]);
    EXPECT_EQ(states[2], states[0]);
    EXPECT_NE(states[2], *saved);
    norms.clear();
    reducers.clear();
  }
}

TYPED_TEST(DeviceHandOverTest, ABadStateIsRefusedByNameAndChangesNothing) {
  NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), nullptr);
  norm.Step(DataOf(0, 0));
  const std::string before = *norm->Save();
  NormOnHost<TypeParam> wide(TypeParam::Of(kChannels + 1), nullptr);
  for (const std::string& bad : {std::string("\x0a\xff"), std::string(), *wide->Save()}) {
    const absl::Status status = norm->Load(bad);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("layer norm"));
    EXPECT_EQ(*norm->Save(), before);
  }
}

TYPED_TEST(DeviceHandOverTest, ALayerThatRefusesItsStateIsNotCreatedAndItsNameStaysFree) {
  InProcessGroup group(1);
  const auto reducer = OnStreams(group.member(0));
  group.HandOver("norm", "nonsense");
  NormOnDevice<TypeParam> other(TypeParam::Of(kChannels), reducer.get(), DType::kF64, "other");
  const auto create = [&] {
    return TypeParam::Norm::Create("norm", TypeParam::Of(kChannels), 0, other.tensors(),
                                   reducer.get());
  };
  const auto refused = create();
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("layer norm"));
  group.HandOver("norm", *other->Save());
  const auto first = create();
  EXPECT_TRUE(first.ok()) << first.status();
  // A second one of the name does not take the first one's place when it goes.
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(create().status().code(), absl::StatusCode::kAlreadyExists);
  }
}

TEST(DeviceHandOverTest, APowerNormWithStatisticsUnderWayRefusesAnotherStateAndOtherTensors) {
  InProcessGroup group(2);
  group.Run([&](int rank, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<PowerNormKind> norm({.channels = kChannels, .warmup_iters = 0}, reducer.get());
    const std::string state = *norm->Save();
    const auto call = norm.Prepare(DataOf(0, rank));
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    norm->set_training(false);
    const absl::Status refused[] = {norm->Load(state), norm->set_tensors(norm.tensors()),
                                    norm.Forward(call.get())};
    norm->set_training(true);
    for (const absl::Status& status : refused) {
      EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(status.message()),
                  AllOf(HasSubstr("layer norm"), HasSubstr("forward statistics are under way"),
                        HasSubstr("Drain()")));
    }
    EXPECT_EQ(norm.Drained().at("iters"), Numbers{1});
    EXPECT_TRUE(norm->Load(state).ok());
    EXPECT_EQ(norm.State().at("iters"), Numbers{0});
    EXPECT_TRUE(norm->set_tensors(norm.tensors()).ok());
  });
}

// iters may be set to a later step: the CPU knows then that the warm-up is over.
TEST(DeviceHandOverTest, APowerNormThatTakesAStatePastItsWarmUpWaitsNoMore) {
  InProcessGroup group(2);
  NormOnHost<PowerNormKind> donor({.channels = kChannels, .warmup_iters = 2}, nullptr);
  for (int s = 0; s < 3; ++s) donor.Step(DataOf(s, 0));
  group.HandOver("norm", *donor->Save());
  group.Hold();
  Meeting meeting(2);
  group.Run([&](int rank, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<PowerNormKind> norm({.channels = kChannels, .warmup_iters = 2}, reducer.get());
    const auto call = norm.Prepare(DataOf(3, rank));
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    norm.stream().Synchronize();  // nothing is waited for
    EXPECT_EQ(reducer->counters().stream_waits, 0u);
    meeting.Wait();
    group.Release();
    EXPECT_EQ(norm.Drained().at("iters"), Numbers{4});
  });
}

}  // namespace
}  // namespace syncnorm::testing
