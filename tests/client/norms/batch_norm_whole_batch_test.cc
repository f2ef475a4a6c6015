// A group computes what one worker with the whole batch would.
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "tests/client/norms/batch_norm_run.h"
#include "tests/support/compare.h"
#include "tests/support/oracle.h"

namespace syncnorm::testing {
namespace {

constexpr int kSteps = 20;

class BatchNormWholeBatchTest
    : public ::testing::TestWithParam<std::tuple<int, DType, Layout, bool>> {};

std::string CaseName(const ::testing::TestParamInfo<std::tuple<int, DType, Layout, bool>>& info) {
  const auto [world, dtype, layout, masked] = info.param;
  return "Of" + std::to_string(world) + "_" + std::string(syncnorm::Name(dtype)) + "_" +
         Name(layout) + (masked ? "_masked" : "");
}

TEST_P(BatchNormWholeBatchTest, IsMetByAnyGroup) {
  const auto [world, dtype, layout, masked] = GetParam();
  std::mt19937_64 random(Seed(7));
  BatchNormOptions options{.channels = 5};
  const auto steps = RandomSteps(&random, world, kSteps, options.channels, {3, 2}, dtype, masked);
  InProcessGroup group(world);
  const auto results = Train(&group, options, dtype, layout, steps);
  const std::string family = "bn " + std::string(syncnorm::Name(dtype)) + (masked ? " masked" : "");
  ExpectEqualsWholeBatch(family, options, dtype, steps, results);
  EXPECT_EQ(group.completed(), world > 1 ? 2 * kSteps : 0);
}

INSTANTIATE_TEST_SUITE_P(
    Groups, BatchNormWholeBatchTest,
    ::testing::Combine(::testing::Values(1, 2, 3, 4, 7),
                       ::testing::Values(DType::kF32, DType::kF64, DType::kF16, DType::kBF16),
                       ::testing::Values(Layout::kContiguous, Layout::kChannelsLast),
                       ::testing::Bool()),
    CaseName);

TEST(BatchNormOptionsTest, CumulativeAverageEqualsTheWholeBatch) {
  std::mt19937_64 random(Seed(8));
  const BatchNormOptions options{.channels = 3, .momentum = std::nullopt};
  const auto steps = RandomSteps(&random, 3, kSteps, 3, {4}, DType::kF32, false);
  InProcessGroup group(3);
  ExpectEqualsWholeBatch("bn cumulative", options, DType::kF32, steps,
                         Train(&group, options, DType::kF32, Layout::kContiguous, steps));
}

TEST(BatchNormOptionsTest, NoAffineEqualsTheWholeBatchAndHasNoGradients) {
  std::mt19937_64 random(Seed(9));
  const BatchNormOptions options{.channels = 3, .affine = false};
  const auto steps = RandomSteps(&random, 2, kSteps, 3, {}, DType::kF32, false);
  InProcessGroup group(2);
  ExpectEqualsWholeBatch("bn no affine", options, DType::kF32, steps,
                         Train(&group, options, DType::kF32, Layout::kContiguous, steps));
}

TEST(BatchNormOptionsTest, NoRunningStatisticsEqualsTheWholeBatch) {
  std::mt19937_64 random(Seed(10));
  const BatchNormOptions options{.channels = 3, .track_running_stats = false};
  const auto steps = RandomSteps(&random, 2, 3, 3, {2, 2, 2}, DType::kF64, false);
  InProcessGroup group(2);
  const auto results = Train(&group, options, DType::kF64, Layout::kChannelsLast, steps);
  ExpectEqualsWholeBatch("bn no running statistics", options, DType::kF64, steps, results);
  EXPECT_TRUE(results[0][0].running_mean.empty());
  EXPECT_EQ(results[2][1].batches, 0);
}

TEST(BatchNormShapeTest, EveryRankOfTensorEqualsTheWholeBatch) {
  std::mt19937_64 random(Seed(11));
  const BatchNormOptions options{.channels = 4};
  const std::vector<std::vector<int64_t>> spatials = {{},     {1},       {7},
                                                      {1, 5}, {2, 3, 2}, {2, 1, 2, 3}};
  for (const std::vector<int64_t>& spatial : spatials) {
    for (Layout layout : {Layout::kContiguous, Layout::kChannelsLast}) {
      SCOPED_TRACE(spatial.size() + 2);
      const auto steps = RandomSteps(&random, 3, 3, 4, spatial, DType::kF32, false);
      InProcessGroup group(3);
      ExpectEqualsWholeBatch("bn shapes", options, DType::kF32, steps,
                             Train(&group, options, DType::kF32, layout, steps));
    }
  }
}

// What PyTorch's 1/sqrt(var + eps) on the wire, or E[x^2] - E[x]^2, would lose.
TEST(BatchNormPrecisionTest, KeepsTheVarianceOfNumbersFarFromZeroAndOfTinyOnes) {
  const struct {
    double mean, deviation;
  } cases[] = {{1e3, 0.1}, {1e4, 1}, {0, 1e-4}, {0, 1e-5}, {1e-3, 1e-5}};
  std::mt19937_64 random(Seed(12));
  for (const auto& [mean, deviation] : cases) {
    SCOPED_TRACE(mean);
    BatchNormStep step{.weight = {1, 1}, .bias = {0, 0}};
    for (int rank = 0; rank < 4; ++rank) {
      HostTensor x(DType::kF32, {25, 2, 10}, Layout::kContiguous,
                   Normal(&random, 500, mean, deviation));
      step.shapes.push_back({25, 2, 10});
      step.x.push_back(x.Load());
      step.dy.push_back(Numbers(500, 1));
      step.valid.push_back({});
    }
    const BatchNormOptions options{.channels = 2, .momentum = 1.0};
    InProcessGroup group(4);
    const auto results = Train(&group, options, DType::kF32, Layout::kContiguous, {step});
    BatchNormOracle oracle(2, 1e-5, 1.0);
    BatchNormOracle::Saved saved;
    oracle.Forward(Concatenate(step.x), {}, &saved);
    for (int c = 0; c < 2; ++c) {
      ExpectClose("bn variance at mean 1e4, at 1e-10", {results[0][0].running_var[c]},
                  {static_cast<double>(oracle.running_var[c])}, 1e-6);
    }
  }
}

// E5: counts that float32 and float16 cannot hold.
TEST(BatchNormPrecisionTest, CountsStayExactWhereFloatsCannotHoldThem) {
  constexpr int64_t kLarge = (int64_t{1} << 24) + 1;
  InProcessGroup group(2);
  std::vector<uint64_t> counts(2);
  group.Run([&](int rank, Reducer* reducer) {
    auto norm = SyncBatchNorm::Create("bn", {.channels = 1}, reducer);
    ASSERT_TRUE(norm.ok());
    const int64_t positions = rank == 0 ? kLarge : 70000;
    std::vector<uint16_t> values(positions, 0x3C00);  // f16 1.0
    const Tensor x = Contiguous(static_cast<void*>(values.data()), DType::kF16, {positions, 1});
    SyncBatchNorm::Context context;
    ASSERT_TRUE((*norm)->Forward(x, nullptr, x, &context).ok());  // in place
    counts[rank] = context.count;
    EXPECT_EQ((*norm)->running_mean()[0], 0.1 * 1 + 0.9 * 0);
    EXPECT_EQ((*norm)->running_var()[0], 0.9);
  });
  EXPECT_EQ(counts[0], static_cast<uint64_t>(kLarge + 70000));
  EXPECT_EQ(counts[1], counts[0]);
}

// E8.
TEST(BatchNormDeterminismTest, GivesTheSameBitsForEveryOrderOfArrival) {
  std::mt19937_64 random(Seed(13));
  const BatchNormOptions options{.channels = 6};
  for (DType dtype : {DType::kF32, DType::kF64}) {
    const auto steps = RandomSteps(&random, 4, 2, 6, {3}, dtype, false);
    std::vector<int> order = {0, 1, 2, 3};
    std::vector<std::vector<BatchNormResult>> first;
    int orders = 0;
    do {
      InProcessGroup group(4);
      group.SetArrivalOrder(order);
      auto results = Train(&group, options, dtype, Layout::kContiguous, steps);
      if (orders++ == 0) first = results;
      for (size_t s = 0; s < steps.size(); ++s) {
        for (int rank = 0; rank < 4; ++rank) {
          EXPECT_EQ(results[s][rank].y, first[s][rank].y);
          EXPECT_EQ(results[s][rank].dx, first[s][rank].dx);
          EXPECT_EQ(results[s][rank].running_var, first[s][rank].running_var);
        }
      }
    } while (std::next_permutation(order.begin(), order.end()));
    EXPECT_EQ(orders, 24);
  }
}

// A member beside one that brings nothing is a group of one.
TEST(BatchNormDeterminismTest, TheLocalPathIsAGroupOfOneBitForBit) {
  std::mt19937_64 random(Seed(14));
  const BatchNormOptions options{.channels = 6};
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    auto alone = RandomSteps(&random, 1, 5, 6, {3, 5}, dtype, true);
    auto pair = alone;
    for (BatchNormStep& step : pair) {
      step.shapes.push_back({0, 6, 3, 5});
      step.x.push_back({});
      step.dy.push_back({});
      step.valid.push_back({});
    }
    InProcessGroup one(1), two(2);
    const auto local = Train(&one, options, dtype, Layout::kContiguous, alone);
    const auto group = Train(&two, options, dtype, Layout::kContiguous, pair);
    EXPECT_EQ(one.completed(), 0u);
    EXPECT_EQ(two.completed(), 10u);
    for (size_t s = 0; s < alone.size(); ++s) {
      EXPECT_EQ(local[s][0].y, group[s][0].y);
      EXPECT_EQ(local[s][0].dx, group[s][0].dx);
      EXPECT_EQ(local[s][0].gradients.weight, group[s][0].gradients.weight);
      EXPECT_EQ(local[s][0].running_mean, group[s][0].running_mean);
      EXPECT_EQ(local[s][0].running_var, group[s][0].running_var);
    }
  }
}

}  // namespace
}  // namespace syncnorm::testing
