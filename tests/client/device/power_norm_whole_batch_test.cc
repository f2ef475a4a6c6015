// A group on devices computes what one worker with the whole batch would, in both semantics,
// whenever its statistics are applied, whoever the other members are.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/client/device/power_norm_device_run.h"
#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

constexpr int kSteps = 10;

using Semantics = PowerNormSemantics;
using Schedule = PowerNormSchedule;
using Param = std::tuple<int, DType, Semantics, bool>;

std::string NameOf(Semantics semantics) {
  return semantics == Semantics::kPaper ? "paper" : "reference";
}

// Half of the steps in warm-up, two groups, unequal rates.
PowerNormOptions Options(Semantics semantics) {
  return {.channels = 6, .alpha_bkw = 0.8, .warmup_iters = 4, .groups = 2, .semantics = semantics};
}

class DevicePowerNormWholeBatchTest : public ::testing::TestWithParam<Param> {};

std::string CaseName(const ::testing::TestParamInfo<Param>& info) {
  const auto [world, dtype, semantics, masked] = info.param;
  return "Of" + std::to_string(world) + "_" + std::string(syncnorm::Name(dtype)) + "_" +
         NameOf(semantics) + (masked ? "_masked" : "");
}

TEST_P(DevicePowerNormWholeBatchTest, IsMetByAnyGroup) {
  const auto [world, dtype, semantics, masked] = GetParam();
  std::mt19937_64 random(Seed(81));
  const PowerNormOptions options = Options(semantics);
  const auto steps = RandomSteps(&random, world, kSteps, 6, dtype, masked, false);
  InProcessGroup group(world);
  const std::string family = "device pn " + NameOf(semantics) + " " +
                             std::string(syncnorm::Name(dtype)) + (masked ? " masked" : "");
  ExpectEqualsWholeBatch(family, options, dtype, steps,
                         TrainOnDevice(&group, options, dtype, steps));
  EXPECT_EQ(group.completed(), world > 1 ? 2 * kSteps : 0);
}

INSTANTIATE_TEST_SUITE_P(
    Groups, DevicePowerNormWholeBatchTest,
    ::testing::Combine(::testing::Values(1, 3),
                       ::testing::Values(DType::kF32, DType::kF64, DType::kF16, DType::kBF16),
                       ::testing::Values(Semantics::kReference, Semantics::kPaper),
                       ::testing::Bool()),
    CaseName);

// Both semantics, and the backward's mask as the semantics do not have it.
class DevicePowerNormVariantTest : public ::testing::TestWithParam<std::tuple<Semantics, bool>> {
 protected:
  PowerNormOptions WithBackwardMask() const {
    PowerNormOptions options = Options(std::get<0>(GetParam()));
    options.masked_backward = std::get<1>(GetParam());
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Variants, DevicePowerNormVariantTest,
                         ::testing::Combine(::testing::Values(Semantics::kReference,
                                                              Semantics::kPaper),
                                            ::testing::Bool()));

TEST_P(DevicePowerNormVariantTest, EqualsTheWholeBatchForAnyWarmUp) {
  std::mt19937_64 random(Seed(82));
  for (int64_t warmup : {0, 1, 2, 3, 100}) {
    SCOPED_TRACE(warmup);
    PowerNormOptions options = WithBackwardMask();
    options.warmup_iters = warmup;
    const auto steps = RandomSteps(&random, 2, 6, 6, DType::kF64, true, false);
    InProcessGroup group(2);
    ExpectEqualsWholeBatch("device pn variants f64", options, DType::kF64, steps,
                           TrainOnDevice(&group, options, DType::kF64, steps));
  }
}

TEST_P(DevicePowerNormVariantTest, EqualsTheWholeBatchForTokensOfRankTwo) {
  std::mt19937_64 random(Seed(83));
  const PowerNormOptions options = WithBackwardMask();
  const auto steps = RandomSteps(&random, 2, kSteps, 6, DType::kF32, true, true);
  InProcessGroup group(2);
  ExpectEqualsWholeBatch("device pn (B, C) f32", options, DType::kF32, steps,
                         TrainOnDevice(&group, options, DType::kF32, steps));
}

TEST_P(DevicePowerNormVariantTest, EqualsTheWholeBatchWithoutAffineAndWithALossScale) {
  std::mt19937_64 random(Seed(84));
  PowerNormOptions options = WithBackwardMask();
  options.affine = false;
  auto steps = RandomSteps(&random, 2, kSteps, 6, DType::kF32, true, false);
  for (PowerNormStep& step : steps) {
    step.weight.assign(6, 1);
    step.bias.assign(6, 0);
    step.grad_scale = 1 + (random() % 5) * 100;
  }
  InProcessGroup group(2);
  ExpectEqualsWholeBatch("device pn loss scale", options, DType::kF32, steps,
                         TrainOnDevice(&group, options, DType::kF32, steps));
}

TEST_P(DevicePowerNormVariantTest, DeferredEqualsBlockingBitForBitAlsoWhenTheCpuRunsAhead) {
  std::mt19937_64 random(Seed(85));
  const std::pair<DType, int64_t> cases[] = {{DType::kF32, 0}, {DType::kF64, 1}, {DType::kBF16, 4}};
  for (const auto& [dtype, warmup] : cases) {
    PowerNormOptions options = WithBackwardMask();
    options.warmup_iters = warmup;
    const auto steps = RandomSteps(&random, 2, 20, 6, dtype, true, false);
    InProcessGroup first(2), second(2), third(2);
    const PowerNormTraining deferred = TrainOnDevice(&first, options, dtype, steps);
    const PowerNormTraining ahead =
        TrainOnDevice(&third, options, dtype, steps, {}, /*free_running=*/true);
    options.schedule = Schedule::kBlocking;
    ExpectSameBits(deferred, TrainOnDevice(&second, options, dtype, steps));
    ExpectSameBits(deferred, ahead);
    EXPECT_EQ(first.submitted(1), second.submitted(1));
    EXPECT_EQ(first.submitted(1), third.submitted(1));
  }
}

// A member beside one that brings nothing is a group of one.
TEST_P(DevicePowerNormVariantTest, TheLocalPathIsAGroupOfOneBitForBit) {
  std::mt19937_64 random(Seed(86));
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    const PowerNormOptions options = WithBackwardMask();
    const auto alone = RandomSteps(&random, 1, kSteps, 6, dtype, true, false);
    auto pair = alone;
    for (PowerNormStep& step : pair) {
      step.shapes.push_back({4, 0, 6});
      step.x.push_back({});
      step.dy.push_back({});
      step.padding.push_back({});
    }
    InProcessGroup one(1), two(2);
    const PowerNormTraining local = TrainOnDevice(&one, options, dtype, alone);
    PowerNormTraining group = TrainOnDevice(&two, options, dtype, pair);
    EXPECT_EQ(one.completed(), 0u);
    EXPECT_EQ(two.completed(), 2u * kSteps);
    for (auto& results : group.results) results.resize(1);
    group.states.resize(1);
    ExpectSameBits(local, group);
  }
}

// Every member applies the group's moments in float64, by the same operations: also one on the
// CPU.
TEST_P(DevicePowerNormVariantTest, MembersOnTheHostAndOnDevicesHoldTheSameBits) {
  std::mt19937_64 random(Seed(87));
  for (DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    const PowerNormOptions options = WithBackwardMask();
    const auto steps = RandomSteps(&random, 3, kSteps, 6, dtype, true, false);
    InProcessGroup group(3);
    ExpectEqualsWholeBatch("device pn mixed", options, dtype, steps,
                           TrainOnDevice(&group, options, dtype, steps, {.on_the_host = {1}}));
  }
}

TEST_P(DevicePowerNormVariantTest, HostFunctionsGiveTheSameBitsAsStreamMemory) {
  std::mt19937_64 random(Seed(88));
  const PowerNormOptions options = WithBackwardMask();
  const auto steps = RandomSteps(&random, 2, kSteps, 6, DType::kF32, true, false);
  InProcessGroup one(2), two(2);
  ExpectSameBits(TrainOnDevice(&one, options, DType::kF32, steps,
                               {.waiting = StreamWaiting::kStreamMemory}, true),
                 TrainOnDevice(&two, options, DType::kF32, steps,
                               {.waiting = StreamWaiting::kHostFunction}, true));
}

// More channels than one block of threads has, more than one of the fold's.
TEST_P(DevicePowerNormVariantTest, EqualsTheWholeBatchForManyChannels) {
  std::mt19937_64 random(Seed(89));
  PowerNormOptions options = WithBackwardMask();
  options.channels = 600;
  const auto steps = RandomSteps(&random, 2, 6, 600, DType::kF32, true, false);
  InProcessGroup group(2);
  ExpectEqualsWholeBatch("device pn wide", options, DType::kF32, steps,
                         TrainOnDevice(&group, options, DType::kF32, steps));
}

TEST(DevicePowerNormEdgeTest, ALossScaleThatIsAPowerOfTwoChangesNoBitOfTheState) {
  std::mt19937_64 random(Seed(90));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    const PowerNormOptions options{.channels = 6, .warmup_iters = 3, .semantics = semantics};
    auto steps = RandomSteps(&random, 2, 8, 6, DType::kF32, true, false);
    InProcessGroup one(2), two(2);
    const PowerNormTraining plain = TrainOnDevice(&one, options, DType::kF32, steps);
    for (size_t s = 0; s < steps.size(); ++s) {
      steps[s].grad_scale = s % 2 == 0 ? 64 : 4096;
      for (Numbers& dy : steps[s].dy) {
        for (double& number : dy) number *= steps[s].grad_scale;
      }
    }
    const PowerNormTraining scaled = TrainOnDevice(&two, options, DType::kF32, steps);
    EXPECT_EQ(plain.states, scaled.states);
    for (size_t s = 0; s < steps.size(); ++s) {
      Numbers dx = scaled.results[s][1].dx;
      for (double& number : dx) number /= steps[s].grad_scale;
      EXPECT_EQ(dx, plain.results[s][1].dx);
    }
  }
}

TEST(DevicePowerNormEdgeTest, AnOverflowOfOneMemberMovesEmaOnNone) {
  std::mt19937_64 random(Seed(91));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    for (bool forward : {false, true}) {
      const PowerNormOptions options{.channels = 6, .warmup_iters = 1, .semantics = semantics};
      auto steps = RandomSteps(&random, 3, 4, 6, DType::kF32, false, false);
      InProcessGroup before_group(3), after_group(3);
      const PowerNormTraining before =
          TrainOnDevice(&before_group, options, DType::kF32, {steps.begin(), steps.begin() + 3});
      Numbers& bad = forward ? steps[3].x[2] : steps[3].dy[2];
      bad[1] = std::numeric_limits<double>::infinity();
      const PowerNormTraining after = TrainOnDevice(&after_group, options, DType::kF32, steps);
      for (int rank = 0; rank < 3; ++rank) {
        EXPECT_EQ(after.states[rank].at("ema_gz"), before.states[0].at("ema_gz"));
        EXPECT_EQ(after.states[rank].at("iters"), Numbers{forward ? 3.0 : 4.0});
        EXPECT_EQ(after.states[rank].at("running_phi") == before.states[0].at("running_phi"),
                  forward);
      }
    }
  }
}

TEST(DevicePowerNormEdgeTest, ABatchThatIsAllPaddingLeavesTheStateUntouched) {
  std::mt19937_64 random(Seed(92));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    for (int64_t warmup : {0, 10}) {
      for (int world : {1, 2}) {
        const PowerNormOptions options{
            .channels = 6, .warmup_iters = warmup, .semantics = semantics};
        auto steps = RandomSteps(&random, world, 3, 6, DType::kF32, true, false);
        steps[2].weight = steps[1].weight;  // step 2 is all padding
        steps[2].bias = steps[1].bias;
        InProcessGroup before(world), after(world);
        const auto want =
            TrainOnDevice(&before, options, DType::kF32, {steps.begin(), steps.begin() + 2});
        const auto got = TrainOnDevice(&after, options, DType::kF32, steps);
        EXPECT_EQ(got.states, want.states);
        for (double number : got.results[2][world - 1].y) EXPECT_TRUE(std::isfinite(number));
      }
    }
  }
}

TEST(DevicePowerNormEdgeTest, AGroupWithoutATokenLeavesTheStateUntouched) {
  const PowerNormOptions options{.channels = 6, .warmup_iters = 10};
  const PowerNormStep empty{.shapes = {{4, 0, 6}, {0, 3, 6}},
                            .x = {{}, {}},
                            .dy = {{}, {}},
                            .padding = {{}, {}},
                            .weight = Numbers(6, 1),
                            .bias = Numbers(6, 0)};
  InProcessGroup group(2);
  const auto training = TrainOnDevice(&group, options, DType::kF16, {empty, empty});
  auto fresh = *SyncPowerNorm::Create("pn", options, nullptr);
  EXPECT_EQ(training.states[0], *fresh->State());
  EXPECT_EQ(training.results[1][0].gradients.weight, Numbers(6, 0));
  EXPECT_EQ(group.completed(), 4u);
}

}  // namespace
}  // namespace syncnorm::testing
