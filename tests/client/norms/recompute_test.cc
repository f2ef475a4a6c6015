// Recomputed forwards: the same bits as without, no round, and no state that moves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>
#include <syncnorm/power_norm.h>
#include <syncnorm/recompute.h>

#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/compare.h"
#include "tests/support/host_tensor.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kChannels = 3;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// One forward's data of one worker: 8 positions, of which `mask` (empty: none) hides some.
struct Data {
  explicit Data(std::mt19937_64* random, bool masked)
      : x(Normal(random, 8 * kChannels, 0.5, 2)), dy(Normal(random, 8 * kChannels)) {
    for (int i = 0; masked && i < 8; ++i) mask.push_back(i % 3 == 0 || (*random)() % 2 == 0);
  }

  Numbers x, dy;
  std::vector<uint8_t> mask;  // 1 = counts
};

struct Gradient {
  Numbers dx, weight, bias;
  friend bool operator==(const Gradient&, const Gradient&) = default;
};

using State = std::map<std::string, std::vector<double>>;

// Both norms alike.  A call's tensors live as long as the worker.
class BatchNorm {
 public:
  using Context = SyncBatchNorm::Context;
  using Options = BatchNormOptions;

  BatchNorm(const Options& options, Reducer* reducer, DType dtype = DType::kF64)
      : norm(*SyncBatchNorm::Create("norm", options, reducer)), dtype_(dtype) {}

  absl::Status Forward(const Data& data, Numbers* y, Context* context) {
    x_.push_back(std::make_unique<HostTensor>(dtype_, kShape, Layout::kContiguous, data.x));
    HostTensor out(dtype_, kShape, Layout::kContiguous);
    const PositionMask mask{data.mask.data(), PositionMask::Type::kByte, {4, 2}};
    const absl::Status status = norm->Forward(
        x_.back()->tensor(), data.mask.empty() ? nullptr : &mask, out.tensor(), context);
    *y = out.Load();
    return status;
  }

  absl::Status Backward(const Data& data, const Context& context, Gradient* gradient) {
    const HostTensor dy(dtype_, kShape, Layout::kContiguous, data.dy);
    HostTensor dx(dtype_, kShape, Layout::kContiguous);
    const Tensor out = dx.tensor();
    SyncBatchNorm::Gradients sums;
    const absl::Status status = norm->Backward(context, dy.tensor(), &out, &sums);
    *gradient = {dx.Load(), sums.weight, sums.bias};
    return status;
  }

  State Drained() { return norm->State(); }

  const std::unique_ptr<SyncBatchNorm> norm;

 private:
  const std::vector<int64_t> kShape = {4, kChannels, 2};
  const DType dtype_;
  std::vector<std::unique_ptr<HostTensor>> x_;
};

class PowerNorm {
 public:
  using Context = SyncPowerNorm::Context;
  using Options = PowerNormOptions;

  PowerNorm(const Options& options, Reducer* reducer, DType dtype = DType::kF64)
      : norm(*SyncPowerNorm::Create("norm", options, reducer)), dtype_(dtype) {}

  absl::Status Forward(const Data& data, Numbers* y, Context* context) {
    x_.push_back(std::make_unique<HostTensor>(dtype_, kShape, Layout::kTokens, data.x));
    HostTensor out(dtype_, kShape, Layout::kTokens);
    std::vector<uint8_t> padding;
    for (uint8_t counts : data.mask) padding.push_back(!counts);
    const absl::Status status = norm->Forward(
        x_.back()->tensor(), padding.empty() ? nullptr : padding.data(), out.tensor(), context);
    *y = out.Load();
    return status;
  }

  absl::Status Backward(const Data& data, const Context& context, Gradient* gradient) {
    const HostTensor dy(dtype_, kShape, Layout::kTokens, data.dy);
    HostTensor dx(dtype_, kShape, Layout::kTokens);
    const Tensor out = dx.tensor();
    SyncPowerNorm::Gradients sums;
    const absl::Status status = norm->Backward(context, dy.tensor(), &out, &sums);
    *gradient = {dx.Load(), sums.weight, sums.bias};
    return status;
  }

  State Drained() {
    EXPECT_TRUE(norm->Drain().ok());
    return *norm->State();
  }

  const std::unique_ptr<SyncPowerNorm> norm;

 private:
  const std::vector<int64_t> kShape = {4, 2, kChannels};
  const DType dtype_;
  std::vector<std::unique_ptr<HostTensor>> x_;
};

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
  std::vector<Gradient> gradients;
  State state;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// `checkpointed`: forwards keep no context; a backward makes it by a recomputation.
template <typename Norm>
Outcome RunProgram(Norm* norm, const Program& program, const std::vector<Data>& data,
                   bool checkpointed) {
  Outcome outcome;
  std::vector<typename Norm::Context> contexts;
  for (const std::string& word : program) {
    if (word == "F") {
      const size_t n = contexts.size();
      contexts.emplace_back();
      outcome.y.emplace_back();
      const absl::Status status =
          norm->Forward(data[n], &outcome.y[n], checkpointed ? nullptr : &contexts[n]);
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    const size_t n = word[1] - '0';
    if (checkpointed) {
      const RecomputeScope scope;
      Numbers again;
      const absl::Status status = norm->Forward(data[n], &again, &contexts[n]);
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_EQ(again, outcome.y[n]);
    }
    outcome.gradients.emplace_back();
    const absl::Status status = norm->Backward(data[n], contexts[n], &outcome.gradients.back());
    EXPECT_TRUE(status.ok()) << status;
  }
  outcome.state = norm->Drained();
  return outcome;
}

std::vector<std::vector<Data>> RandomData(std::mt19937_64* random, int world, bool masked) {
  std::vector<std::vector<Data>> data(world);
  for (auto& of_rank : data) {
    for (int n = 0; n < 4; ++n) of_rank.emplace_back(random, masked);
  }
  return data;
}

// Runs `program` on two workers with and without checkpoints, and on one without a group.
template <typename Norm>
void ExpectCheckpointsChangeNothing(const typename Norm::Options& options, const Program& program,
                                    DType dtype, const std::vector<std::vector<Data>>& data) {
  InProcessGroup plain(2), checkpointed(2);
  std::vector<Outcome> expected(2), outcomes(2);
  const auto run = [&](InProcessGroup* group, std::vector<Outcome>* to) {
    group->Run([&](int rank, Reducer* reducer) {
      Norm norm(options, reducer, dtype);
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
  Norm alone(options, nullptr, dtype), alone_checkpointed(options, nullptr, dtype);
  EXPECT_EQ(RunProgram(&alone_checkpointed, program, data[0], true),
            RunProgram(&alone, program, data[0], false));
}

TEST(RecomputeTest, ABatchNormGivesTheSameBitsWithoutARound) {
  std::mt19937_64 random(Seed(51));
  for (const Program& program : kPrograms) {
    for (bool masked : {false, true}) {
      for (DType dtype : {DType::kF64, DType::kF32}) {
        SCOPED_TRACE(::testing::Message() << ::testing::PrintToString(program) << masked);
        const auto data = RandomData(&random, 2, masked);
        ExpectCheckpointsChangeNothing<BatchNorm>({.channels = kChannels}, program, dtype, data);
        ExpectCheckpointsChangeNothing<BatchNorm>({.channels = kChannels, .momentum = std::nullopt},
                                                  program, dtype, data);
        ExpectCheckpointsChangeNothing<BatchNorm>(
            {.channels = kChannels, .affine = false, .track_running_stats = false}, program, dtype,
            data);
      }
    }
  }
}

TEST(RecomputeTest, APowerNormGivesTheSameBitsWithoutARoundInAndAfterWarmUp) {
  std::mt19937_64 random(Seed(52));
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
          for (bool masked : {false, true}) {
            ExpectCheckpointsChangeNothing<PowerNorm>(options, program, DType::kF64,
                                                      RandomData(&random, 2, masked));
          }
        }
      }
    }
  }
}

template <typename Norm>
class RecomputeOfBothTest : public ::testing::Test {
 protected:
  static typename Norm::Options Options(int64_t kept_forwards = 8) {
    typename Norm::Options options;
    options.channels = kChannels;
    options.kept_forwards = kept_forwards;
    return options;
  }

  // The text of a recomputation that is refused.
  static std::string Refusal(Norm* norm, const Data& data) {
    const RecomputeScope scope;
    Numbers y;
    typename Norm::Context context;
    const absl::Status status = norm->Forward(data, &y, &context);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return std::string(status.message());
  }

  std::mt19937_64 random_{Seed(53)};
  Numbers y_, again_;
};
using Both = ::testing::Types<BatchNorm, PowerNorm>;
TYPED_TEST_SUITE(RecomputeOfBothTest, Both);

TYPED_TEST(RecomputeOfBothTest, OtherInputsAreRefusedAndNothingIsSent) {
  const auto data = RandomData(&this->random_, 2, false);
  InProcessGroup group(2);
  group.Run([&](int rank, Reducer* reducer) {
    TypeParam norm(this->Options(), reducer);
    EXPECT_THAT(this->Refusal(&norm, data[rank][0]),
                AllOf(HasSubstr("layer norm"), HasSubstr("no training forward came before it")));
    Numbers y;
    ASSERT_TRUE(norm.Forward(data[rank][0], &y, nullptr).ok());
    const State before = norm.Drained();
    Data dropped = data[rank][0];
    dropped.x[4] += 1e-9;
    EXPECT_THAT(this->Refusal(&norm, dropped),
                AllOf(HasSubstr("layer norm"), HasSubstr("dropout"), HasSubstr("kept_forwards = 8"),
                      HasSubstr("nothing was sent")));
    EXPECT_EQ(norm.Drained(), before);
  });
  EXPECT_THAT(group.submitted(0), ::testing::ElementsAre("forward norm step 1"));
}

TYPED_TEST(RecomputeOfBothTest, OneOfTooManyForwardsAgoIsRefused) {
  const auto data = RandomData(&this->random_, 1, false)[0];
  TypeParam norm(this->Options(2), nullptr);
  for (int n = 0; n < 3; ++n) ASSERT_TRUE(norm.Forward(data[n], &this->y_, nullptr).ok());
  EXPECT_THAT(this->Refusal(&norm, data[0]), HasSubstr("kept_forwards = 2"));
  const RecomputeScope scope;
  EXPECT_TRUE(norm.Forward(data[1], &this->y_, nullptr).ok());
}

TYPED_TEST(RecomputeOfBothTest, WithoutKeptForwardsItIsAForwardLikeAnyOther) {
  const auto data = RandomData(&this->random_, 1, false)[0];
  TypeParam norm(this->Options(0), nullptr), twice(this->Options(), nullptr);
  for (TypeParam* each : {&norm, &twice}) {
    ASSERT_TRUE(each->Forward(data[0], &this->y_, nullptr).ok());
  }
  ASSERT_TRUE(twice.Forward(data[0], &this->y_, nullptr).ok());
  const RecomputeScope scope;
  ASSERT_TRUE(norm.Forward(data[0], &this->y_, nullptr).ok());
  EXPECT_EQ(norm.Drained(), twice.Drained());
}

TYPED_TEST(RecomputeOfBothTest, ItMayBeRecomputedAgainAsNestedCheckpointsDo) {
  const auto data = RandomData(&this->random_, 1, false)[0];
  TypeParam norm(this->Options(), nullptr);
  ASSERT_TRUE(norm.Forward(data[0], &this->y_, nullptr).ok());
  ASSERT_TRUE(norm.Forward(data[1], &this->again_, nullptr).ok());
  const State before = norm.Drained();
  for (int i = 0; i < 3; ++i) {
    const RecomputeScope scope;
    ASSERT_TRUE(norm.Forward(data[0], &this->again_, nullptr).ok());
    EXPECT_EQ(this->again_, this->y_);
  }
  EXPECT_EQ(norm.Drained(), before);
}

TYPED_TEST(RecomputeOfBothTest, InputsWithANanAreRecognised) {
  auto data = RandomData(&this->random_, 1, false)[0];
  data[0].x[3] = kNan;
  TypeParam norm(this->Options(), nullptr);
  ASSERT_TRUE(norm.Forward(data[0], &this->y_, nullptr).ok());
  const RecomputeScope scope;
  EXPECT_TRUE(norm.Forward(data[0], &this->again_, nullptr).ok());
}

TYPED_TEST(RecomputeOfBothTest, InEvalAScopeChangesNothing) {
  const auto data = RandomData(&this->random_, 1, false)[0];
  TypeParam norm(this->Options(), nullptr);
  norm.norm->set_training(false);
  ASSERT_TRUE(norm.Forward(data[0], &this->y_, nullptr).ok());
  const RecomputeScope scope;
  ASSERT_TRUE(norm.Forward(data[0], &this->again_, nullptr).ok());
  EXPECT_EQ(this->again_, this->y_);
}

// Rank 1 has nothing in any forward, so that all of its forwards look alike.
TYPED_TEST(RecomputeOfBothTest, OfForwardsThatLookAlikeTheNewestWithoutABackwardIsRepeated) {
  auto data = RandomData(&this->random_, 2, true);
  for (Data& each : data[1]) each.mask.assign(8, 0);
  for (const Program& program : {kPrograms[0], kPrograms[2], Program{"F", "F", "B1", "F", "B2"}}) {
    SCOPED_TRACE(::testing::PrintToString(program));
    ExpectCheckpointsChangeNothing<TypeParam>(this->Options(), program, DType::kF64, data);
  }
}

TYPED_TEST(RecomputeOfBothTest, MembersThatRepeatDifferentForwardsAreTold) {
  auto data = RandomData(&this->random_, 2, true);
  for (Data& each : data[1]) each.mask.assign(8, 0);
  auto options = this->Options();
  InProcessGroup group(2);
  group.Run([&](int rank, Reducer* reducer) {
    TypeParam norm(options, reducer);
    Numbers y;
    for (int n = 0; n < 2; ++n) ASSERT_TRUE(norm.Forward(data[rank][n], &y, nullptr).ok());
    typename TypeParam::Context context;
    {
      const RecomputeScope scope;
      ASSERT_TRUE(norm.Forward(data[rank][0], &y, &context).ok());  // rank 1 takes the second
    }
    Gradient gradient;
    absl::Status status = norm.Backward(data[rank][0], context, &gradient);
    if constexpr (std::is_same_v<TypeParam, PowerNorm>) status = norm.norm->Drain();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("backward norm step 1"), HasSubstr("backward norm step 2")));
  });
}

// Results are held back by the group: whoever waits for one would be seen.
TEST(RecomputeTest, APowerNormRecomputesWhileTheStatisticIsStillUnderWay) {
  std::mt19937_64 random(Seed(54));
  const auto data = RandomData(&random, 2, false);
  for (PowerNormSemantics semantics :
       {PowerNormSemantics::kReference, PowerNormSemantics::kPaper}) {
    InProcessGroup group(2);
    Meeting meeting(2);
    group.Hold();
    group.Run([&](int rank, Reducer* reducer) {
      PowerNorm norm({.channels = kChannels, .warmup_iters = 0, .semantics = semantics}, reducer);
      Numbers y, again;
      ASSERT_TRUE(norm.Forward(data[rank][0], &y, nullptr).ok());
      PowerNorm::Context context;
      {
        const RecomputeScope scope;
        ASSERT_TRUE(norm.Forward(data[rank][0], &again, &context).ok());
      }
      EXPECT_EQ(again, y);
      EXPECT_EQ(norm.norm->blocking_waits(), 0);
      EXPECT_EQ(norm.norm->State().status().code(), absl::StatusCode::kFailedPrecondition);
      meeting.Wait();
      group.Release();
      Gradient gradient;
      EXPECT_TRUE(norm.Backward(data[rank][0], context, &gradient).ok());
      EXPECT_EQ(norm.Drained().at("iters"), Numbers{1});
    });
  }
}

TEST(RecomputeScopeTest, NestsAndBelongsToItsThread) {
  EXPECT_FALSE(RecomputeScope::active());
  {
    const RecomputeScope outer;
    {
      const RecomputeScope inner;
      EXPECT_TRUE(RecomputeScope::active());
    }
    EXPECT_TRUE(RecomputeScope::active());
    std::thread([] { EXPECT_FALSE(RecomputeScope::active()); }).join();
  }
  EXPECT_FALSE(RecomputeScope::active());
}

}  // namespace
}  // namespace syncnorm::testing
