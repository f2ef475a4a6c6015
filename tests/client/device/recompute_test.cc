// Recomputed forwards on a device: the same bits as without, no round, and no state that moves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/recompute.h>

#include <limits>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Truly;

constexpr int64_t kChannels = 3, kPositions = 8;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const auto kIsNan = Truly([](double number) { return std::isnan(number); });

// A word is a call: F the next forward, Bn the backward of forward n.
using Program = std::vector<std::string>;
const Program kPrograms[] = {
    {"F", "B0", "F", "B1", "F", "B2", "F", "B3"},   // one after the other
    {"F", "F", "F", "B0", "B1", "B2", "F", "B3"},   // micro-batches, first in, first out
    {"F", "F", "F", "F", "B3", "B2", "B1", "B0"},   // a stack, as weight sharing makes
    {"F", "F", "B1", "F", "B2", "B0", "F", "B3"},   // a pipeline
    {"F", "F", "B1", "F", "F", "B3", "B0", "B0"}};  // one without a backward, and one with two

struct Outcome {
  std::vector<Numbers> y;
  std::vector<NormResult> gradients;
  NormState state;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// `checkpointed`: forwards keep no context; a backward makes it by a recomputation.  Nothing waits
// for the device before the end.
template <typename Kind>
Outcome RunProgram(NormOnDevice<Kind>* norm, const Program& program,
                   const std::vector<NormData>& data, bool checkpointed) {
  using Call = typename NormOnDevice<Kind>::Call;
  std::vector<std::unique_ptr<Call>> forwards, backwards;
  std::vector<std::pair<size_t, size_t>> repeated;  // a forward, and the backward's recomputation
  for (const NormData& each : data) forwards.push_back(norm->Prepare(each));
  size_t next = 0;
  for (const std::string& word : program) {
    if (word == "F") {
      Call* const call = forwards[next++].get();
      const absl::Status status = norm->Forward(call);
      EXPECT_TRUE(status.ok()) << status;
      if (checkpointed) call->context = {};
      continue;
    }
    const size_t n = word[1] - '0';
    backwards.push_back(norm->Prepare(data[n]));
    Call* const call = backwards.back().get();
    if (checkpointed) {
      const RecomputeScope scope;
      const absl::Status status = norm->Forward(call);
      EXPECT_TRUE(status.ok()) << status;
      repeated.emplace_back(n, backwards.size() - 1);
    } else {
      call->context = forwards[n]->context;
      call->context.x = call->x();  // the same numbers
    }
    const absl::Status status = norm->Backward(call);
    EXPECT_TRUE(status.ok()) << status;
  }
  Outcome outcome;
  outcome.state = norm->Drained();
  const absl::Status checked = (*norm)->Check();
  EXPECT_TRUE(checked.ok()) << checked;
  for (size_t n = 0; n < next; ++n) outcome.y.push_back(forwards[n]->LoadY());
  for (const auto& call : backwards) {
    outcome.gradients.push_back(call->Load());
    outcome.gradients.back().y.clear();
  }
  for (const auto& [n, b] : repeated) EXPECT_EQ(backwards[b]->LoadY(), outcome.y[n]);
  return outcome;
}

std::vector<std::vector<NormData>> RandomData(std::mt19937_64* random, int world, bool masked) {
  std::vector<std::vector<NormData>> data(world);
  for (auto& of_rank : data) {
    for (int n = 0; n < 4; ++n) of_rank.emplace_back(random, kPositions, kChannels, masked);
  }
  return data;
}

// Runs `program` on two workers with and without checkpoints, and on one without a group.
template <typename Kind>
void ExpectCheckpointsChangeNothing(const typename Kind::Options& options, const Program& program,
                                    DType dtype, const std::vector<std::vector<NormData>>& data) {
  InProcessGroup plain(2), checkpointed(2);
  std::vector<Outcome> expected(2), outcomes(2);
  const auto run = [&](InProcessGroup* group, std::vector<Outcome>* to) {
    group->Run([&](int rank, Reducer* member) {
      const auto reducer = OnStreams(member);
      NormOnDevice<Kind> norm(options, reducer.get(), dtype);
      (*to)[rank] = RunProgram(&norm, program, data[rank], group == &checkpointed);
    });
  };
  run(&plain, &expected);
  run(&checkpointed, &outcomes);
  EXPECT_GT(plain.completed(), 0u);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(outcomes[rank], expected[rank]);
    EXPECT_EQ(checkpointed.submitted(rank), plain.submitted(rank));
  }
  NormOnDevice<Kind> alone(options, nullptr, dtype), alone_checkpointed(options, nullptr, dtype);
  EXPECT_EQ(RunProgram(&alone_checkpointed, program, data[0], true),
            RunProgram(&alone, program, data[0], false));
}

TEST(DeviceRecomputeTest, ABatchNormGivesTheSameBitsWithoutARound) {
  std::mt19937_64 random(Seed(141));
  for (const Program& program : kPrograms) {
    for (bool masked : {false, true}) {
      SCOPED_TRACE(::testing::Message() << ::testing::PrintToString(program) << masked);
      const auto data = RandomData(&random, 2, masked);
      ExpectCheckpointsChangeNothing<BatchNormKind>({.channels = kChannels}, program,
                                                    masked ? DType::kF32 : DType::kF64, data);
      ExpectCheckpointsChangeNothing<BatchNormKind>(
          {.channels = kChannels, .momentum = std::nullopt}, program, DType::kF64, data);
      ExpectCheckpointsChangeNothing<BatchNormKind>(
          {.channels = kChannels, .affine = false, .track_running_stats = false}, program,
          DType::kF64, data);
    }
  }
}

TEST(DeviceRecomputeTest, APowerNormGivesTheSameBitsWithoutARoundInAndAfterWarmUp) {
  std::mt19937_64 random(Seed(142));
  for (const Program& program : kPrograms) {
    for (PowerNormSemantics semantics :
         {PowerNormSemantics::kReference, PowerNormSemantics::kPaper}) {
      for (PowerNormSchedule schedule :
           {PowerNormSchedule::kDeferred, PowerNormSchedule::kBlocking}) {
        for (int64_t warmup : {0, 2, 9}) {
          SCOPED_TRACE(::testing::Message()
                       << ::testing::PrintToString(program) << static_cast<int>(semantics)
                       << static_cast<int>(schedule) << ", warm-up " << warmup);
          const PowerNormOptions options{.channels = kChannels,
                                         .warmup_iters = warmup,
                                         .semantics = semantics,
                                         .schedule = schedule};
          ExpectCheckpointsChangeNothing<PowerNormKind>(options, program, DType::kF64,
                                                        RandomData(&random, 2, warmup != 2));
        }
      }
    }
  }
}

template <typename Kind>
class DeviceRecomputeOfBothTest : public ::testing::Test {
 protected:
  using OnDevice = NormOnDevice<Kind>;
  static typename Kind::Options Options(int64_t kept_forwards = 8) {
    auto options = Kind::Of(kChannels);
    options.kept_forwards = kept_forwards;
    return options;
  }
  // A recomputation, waited for; what it or the layer says.
  static absl::Status Again(OnDevice* norm, typename OnDevice::Call* call) {
    const RecomputeScope scope;
    if (absl::Status status = norm->Forward(call); !status.ok()) return status;
    norm->stream().Synchronize();
    return (*norm)->Check();
  }
  static absl::Status First(OnDevice* norm, const NormData& data) {
    const auto call = norm->Prepare(data);
    const absl::Status status = norm->Forward(call.get());
    norm->stream().Synchronize();
    return status;
  }

  std::mt19937_64 random_{Seed(143)};
};
TYPED_TEST_SUITE(DeviceRecomputeOfBothTest, BothKinds);

TYPED_TEST(DeviceRecomputeOfBothTest, OneThatNoForwardCameBeforeIsRefusedAtOnce) {
  const NormData data(&this->random_, kPositions, kChannels);
  NormOnDevice<TypeParam> norm(this->Options(), nullptr);
  const auto call = norm.Prepare(data);
  const absl::Status refused = this->Again(&norm, call.get());
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("layer norm"), HasSubstr("no training forward came before it")));
}

TYPED_TEST(DeviceRecomputeOfBothTest, OtherInputsGiveNanAreToldOnceAndNothingIsSent) {
  const auto data = RandomData(&this->random_, 2, false);
  for (int world : {1, 2}) {
    SCOPED_TRACE(world);
    InProcessGroup group(world);
    group.Run([&](int rank, Reducer* member) {
      const auto reducer = OnStreams(member);
      NormOnDevice<TypeParam> norm(this->Options(), reducer.get());
      ASSERT_TRUE(this->First(&norm, data[rank][0]).ok());
      const NormState before = norm.Drained();
      NormData dropped = data[rank][0];
      dropped.x[4] += 1e-9;
      const auto call = norm.Prepare(dropped);
      const absl::Status told = this->Again(&norm, call.get());
      EXPECT_EQ(told.code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(told.message()), AllOf(HasSubstr("layer norm"), HasSubstr("inputs")));
      EXPECT_TRUE(norm->Check().ok()) << "once";
      EXPECT_THAT(call->LoadY(), Each(kIsNan));
      // Its backward: told as well, NaN, no round.
      ASSERT_TRUE(norm.Backward(call.get()).ok());
      ASSERT_TRUE(norm.Drain().ok() || world > 1);
      norm.stream().Synchronize();
      const absl::Status backward = norm->Check();
      if (world > 1) {
        EXPECT_EQ(backward.code(), absl::StatusCode::kFailedPrecondition) << backward;
        EXPECT_THAT(std::string(backward.message()), HasSubstr("nothing was sent"));
      }
      EXPECT_THAT(call->Load().dx, Each(kIsNan));
      EXPECT_EQ(norm.Drained(), before);
    });
    if (world == 2) {
      EXPECT_THAT(group.submitted(0), ElementsAre("forward norm step 1"));
    }
  }
}

TYPED_TEST(DeviceRecomputeOfBothTest, OneOfTooManyForwardsAgoIsNotFound) {
  const auto data = RandomData(&this->random_, 1, false)[0];
  NormOnDevice<TypeParam> norm(this->Options(2), nullptr);
  for (int n = 0; n < 3; ++n) ASSERT_TRUE(this->First(&norm, data[n]).ok());
  const auto old = norm.Prepare(data[0]), kept = norm.Prepare(data[1]);
  EXPECT_EQ(this->Again(&norm, old.get()).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(this->Again(&norm, kept.get()).ok());
}

TYPED_TEST(DeviceRecomputeOfBothTest, WithoutKeptForwardsItIsAForwardLikeAnyOther) {
  const auto data = RandomData(&this->random_, 1, false)[0];
  NormOnDevice<TypeParam> norm(this->Options(0), nullptr), twice(this->Options(), nullptr);
  const auto call = norm.Prepare(data[0]);
  ASSERT_TRUE(this->First(&norm, data[0]).ok());
  ASSERT_TRUE(this->Again(&norm, call.get()).ok());
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(this->First(&twice, data[0]).ok());
  EXPECT_EQ(norm.Drained(), twice.Drained());
}

TYPED_TEST(DeviceRecomputeOfBothTest, ItMayBeRecomputedAgainAsNestedCheckpointsDo) {
  const auto data = RandomData(&this->random_, 1, false)[0];
  NormOnDevice<TypeParam> norm(this->Options(), nullptr);
  const auto first = norm.Prepare(data[0]);
  ASSERT_TRUE(norm.Forward(first.get()).ok());
  ASSERT_TRUE(this->First(&norm, data[1]).ok());
  const NormState before = norm.Drained();
  for (int i = 0; i < 3; ++i) {
    const auto again = norm.Prepare(data[0]);
    ASSERT_TRUE(this->Again(&norm, again.get()).ok());
    EXPECT_EQ(again->LoadY(), first->LoadY());
  }
  EXPECT_EQ(norm.Drained(), before);
}

TYPED_TEST(DeviceRecomputeOfBothTest, InputsWithANanAreRecognised) {
  auto data = RandomData(&this->random_, 1, false)[0];
  data[0].x[3] = kNan;
  NormOnDevice<TypeParam> norm(this->Options(), nullptr);
  const auto call = norm.Prepare(data[0]);
  ASSERT_TRUE(norm.Forward(call.get()).ok());
  EXPECT_TRUE(this->Again(&norm, call.get()).ok());
}

TYPED_TEST(DeviceRecomputeOfBothTest, InEvalAScopeChangesNothing) {
  const auto data = RandomData(&this->random_, 1, false)[0];
  NormOnDevice<TypeParam> norm(this->Options(), nullptr);
  norm->set_training(false);
  const auto first = norm.Prepare(data[0]), again = norm.Prepare(data[0]);
  ASSERT_TRUE(norm.Forward(first.get()).ok());
  ASSERT_TRUE(this->Again(&norm, again.get()).ok());
  EXPECT_EQ(again->LoadY(), first->LoadY());
}

// Rank 1 has nothing in any forward, so that all of its forwards look alike.
TYPED_TEST(DeviceRecomputeOfBothTest, OfForwardsThatLookAlikeTheNewestWithoutABackwardIsRepeated) {
  auto data = RandomData(&this->random_, 2, true);
  for (NormData& each : data[1]) each.mask.assign(kPositions, 0);
  for (const Program& program : {kPrograms[0], kPrograms[2], Program{"F", "F", "B1", "F", "B2"}}) {
    SCOPED_TRACE(::testing::PrintToString(program));
    ExpectCheckpointsChangeNothing<TypeParam>(this->Options(), program, DType::kF64, data);
  }
}

TYPED_TEST(DeviceRecomputeOfBothTest, MembersThatRepeatDifferentForwardsAreTold) {
  auto data = RandomData(&this->random_, 2, true);
  for (NormData& each : data[1]) each.mask.assign(kPositions, 0);
  InProcessGroup group(2);
  group.Run([&](int rank, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<TypeParam> norm(this->Options(), reducer.get());
    for (int n = 0; n < 2; ++n) ASSERT_TRUE(this->First(&norm, data[rank][n]).ok());
    const auto call = norm.Prepare(data[rank][0]);
    ASSERT_TRUE(this->Again(&norm, call.get()).ok());  // rank 1 takes the second
    ASSERT_TRUE(norm.Backward(call.get()).ok());
    absl::Status status = norm.Drain();
    norm.stream().Synchronize();
    if (status.ok()) status = norm->Check();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("backward norm step 1"), HasSubstr("backward norm step 2")));
  });
}

// Results are held back by the group: the recomputation needs none.
TEST(DeviceRecomputeTest, APowerNormRecomputesWhileTheStatisticIsStillUnderWay) {
  std::mt19937_64 random(Seed(144));
  const auto data = RandomData(&random, 2, false);
  for (PowerNormSemantics semantics :
       {PowerNormSemantics::kReference, PowerNormSemantics::kPaper}) {
    InProcessGroup group(2);
    Meeting meeting(2);
    group.Hold();
    group.Run([&](int rank, Reducer* member) {
      const auto reducer = OnStreams(member);
      NormOnDevice<PowerNormKind> norm(
          {.channels = kChannels, .warmup_iters = 0, .semantics = semantics}, reducer.get());
      const auto first = norm.Prepare(data[rank][0]), again = norm.Prepare(data[rank][0]);
      ASSERT_TRUE(norm.Forward(first.get()).ok());
      {
        const RecomputeScope scope;
        ASSERT_TRUE(norm.Forward(again.get()).ok());
      }
      EXPECT_EQ(again->LoadY(), first->LoadY());
      EXPECT_EQ(reducer->counters().stream_waits, 0u);
      meeting.Wait();
      group.Release();
      EXPECT_TRUE(norm.Backward(again.get()).ok());
      EXPECT_EQ(norm.Drained().at("iters"), Numbers{1});
    });
  }
}

}  // namespace
}  // namespace syncnorm::testing
