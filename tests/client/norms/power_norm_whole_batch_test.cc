// A group computes what one worker with the whole batch would, in both semantics, whenever its
// statistics are collected.
#include <gtest/gtest.h>
#include <syncnorm/power_norm.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "tests/client/norms/power_norm_run.h"
#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

constexpr int kSteps = 20;

using Semantics = PowerNormSemantics;
using Schedule = PowerNormSchedule;
using Param = std::tuple<int, DType, Semantics, bool>;

std::string NameOf(Semantics semantics) {
  return semantics == Semantics::kPaper ? "paper" : "reference";
}

// Half of the steps in warm-up, two groups, unequal rates.
PowerNormOptions Options(Semantics semantics) {
  return {.channels = 6, .alpha_bkw = 0.8, .warmup_iters = 8, .groups = 2, .semantics = semantics};
}

class PowerNormWholeBatchTest : public ::testing::TestWithParam<Param> {};

std::string CaseName(const ::testing::TestParamInfo<Param>& info) {
  const auto [world, dtype, semantics, masked] = info.param;
  return "Of" + std::to_string(world) + "_" + std::string(syncnorm::Name(dtype)) + "_" +
         NameOf(semantics) + (masked ? "_masked" : "");
}

TEST_P(PowerNormWholeBatchTest, IsMetByAnyGroup) {
  const auto [world, dtype, semantics, masked] = GetParam();
  std::mt19937_64 random(Seed(21));
  const PowerNormOptions options = Options(semantics);
  const auto steps = RandomSteps(&random, world, kSteps, 6, dtype, masked, false);
  InProcessGroup group(world);
  const std::string family = "pn " + NameOf(semantics) + " " + std::string(syncnorm::Name(dtype)) +
                             (masked ? " masked" : "");
  ExpectEqualsWholeBatch(family, options, dtype, steps, Train(&group, options, dtype, steps));
  EXPECT_EQ(group.completed(), world > 1 ? 2 * kSteps : 0);
}

INSTANTIATE_TEST_SUITE_P(
    Groups, PowerNormWholeBatchTest,
    ::testing::Combine(::testing::Values(1, 2, 3, 4, 7),
                       ::testing::Values(DType::kF32, DType::kF64, DType::kF16, DType::kBF16),
                       ::testing::Values(Semantics::kReference, Semantics::kPaper),
                       ::testing::Bool()),
    CaseName);

// Both semantics, and the backward's mask as the semantics do not have it.
class PowerNormVariantTest : public ::testing::TestWithParam<std::tuple<Semantics, bool>> {
 protected:
  PowerNormOptions WithBackwardMask() const {
    PowerNormOptions options = Options(std::get<0>(GetParam()));
    options.masked_backward = std::get<1>(GetParam());
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Variants, PowerNormVariantTest,
                         ::testing::Combine(::testing::Values(Semantics::kReference,
                                                              Semantics::kPaper),
                                            ::testing::Bool()));

TEST_P(PowerNormVariantTest, EqualsTheWholeBatchForAnyWarmUp) {
  std::mt19937_64 random(Seed(22));
  for (int64_t warmup : {0, 1, 2, 3, 100}) {
    SCOPED_TRACE(warmup);
    PowerNormOptions options = WithBackwardMask();
    options.warmup_iters = warmup;
    const auto steps = RandomSteps(&random, 3, 6, 6, DType::kF64, true, false);
    InProcessGroup group(3);
    ExpectEqualsWholeBatch("pn variants f64", options, DType::kF64, steps,
                           Train(&group, options, DType::kF64, steps));
  }
}

TEST_P(PowerNormVariantTest, EqualsTheWholeBatchForTokensOfRankTwo) {
  std::mt19937_64 random(Seed(23));
  const PowerNormOptions options = WithBackwardMask();
  const auto steps = RandomSteps(&random, 3, kSteps, 6, DType::kF32, true, true);
  InProcessGroup group(3);
  ExpectEqualsWholeBatch("pn (B, C) f32", options, DType::kF32, steps,
                         Train(&group, options, DType::kF32, steps));
}

TEST_P(PowerNormVariantTest, EqualsTheWholeBatchWithoutAffineAndWithALossScale) {
  std::mt19937_64 random(Seed(24));
  PowerNormOptions options = WithBackwardMask();
  options.affine = false;
  auto steps = RandomSteps(&random, 2, kSteps, 6, DType::kF32, true, false);
  for (PowerNormStep& step : steps) {
    step.weight.assign(6, 1);
    step.bias.assign(6, 0);
    step.grad_scale = 1 + (random() % 5) * 100;
  }
  InProcessGroup group(2);
  ExpectEqualsWholeBatch("pn loss scale", options, DType::kF32, steps,
                         Train(&group, options, DType::kF32, steps));
}

TEST_P(PowerNormVariantTest, DeferredEqualsBlockingBitForBit) {
  std::mt19937_64 random(Seed(25));
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    for (int64_t warmup : {0, 1, 4}) {
      PowerNormOptions options = WithBackwardMask();
      options.warmup_iters = warmup;
      const auto steps = RandomSteps(&random, 3, 14, 6, dtype, true, false);
      InProcessGroup first(3), second(3);
      const PowerNormTraining deferred = Train(&first, options, dtype, steps);
      options.schedule = Schedule::kBlocking;
      ExpectSameBits(deferred, Train(&second, options, dtype, steps));
      EXPECT_EQ(first.submitted(1), second.submitted(1));
    }
  }
}

// A member beside one that brings nothing is a group of one.
TEST_P(PowerNormVariantTest, TheLocalPathIsAGroupOfOneBitForBit) {
  std::mt19937_64 random(Seed(26));
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
    const PowerNormTraining local = Train(&one, options, dtype, alone);
    PowerNormTraining group = Train(&two, options, dtype, pair);
    EXPECT_EQ(one.completed(), 0u);
    EXPECT_EQ(two.completed(), 2u * kSteps);
    for (auto& results : group.results) results.resize(1);
    group.states.resize(1);
    ExpectSameBits(local, group);
  }
}

// E8.
TEST_P(PowerNormVariantTest, GivesTheSameBitsForEveryOrderOfArrival) {
  std::mt19937_64 random(Seed(27));
  PowerNormOptions options = WithBackwardMask();
  options.warmup_iters = 2;
  const auto steps = RandomSteps(&random, 4, 4, 6, DType::kF32, true, false);
  std::vector<int> order = {0, 1, 2, 3};
  PowerNormTraining first;
  int orders = 0;
  do {
    InProcessGroup group(4);
    group.SetArrivalOrder(order);
    const PowerNormTraining training = Train(&group, options, DType::kF32, steps);
    if (orders++ == 0) first = training;
    ExpectSameBits(first, training);
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(orders, 24);
}

}  // namespace
}  // namespace syncnorm::testing
