// A group on devices computes what one worker with the whole batch would, on any stream, whoever
// the other members are.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "tests/client/device/batch_norm_device_run.h"
#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

constexpr int kSteps = 4;

class DeviceBatchNormWholeBatchTest
    : public ::testing::TestWithParam<std::tuple<int, DType, Layout, bool>> {};

std::string CaseName(const ::testing::TestParamInfo<std::tuple<int, DType, Layout, bool>>& info) {
  const auto [world, dtype, layout, masked] = info.param;
  return "Of" + std::to_string(world) + "_" + std::string(syncnorm::Name(dtype)) + "_" +
         Name(layout) + (masked ? "_masked" : "");
}

TEST_P(DeviceBatchNormWholeBatchTest, IsMetByAnyGroup) {
  const auto [world, dtype, layout, masked] = GetParam();
  std::mt19937_64 random(Seed(71));
  const BatchNormOptions options{.channels = 5};
  const auto steps = RandomSteps(&random, world, kSteps, options.channels, {3, 2}, dtype, masked);
  InProcessGroup group(world);
  const auto results = TrainOnDevice(&group, options, dtype, layout, steps);
  const std::string family =
      "device bn " + std::string(syncnorm::Name(dtype)) + (masked ? " masked" : "");
  ExpectEqualsWholeBatch(family, options, dtype, steps, results);
  EXPECT_EQ(group.completed(), world > 1 ? 2 * kSteps : 0);
}

INSTANTIATE_TEST_SUITE_P(
    Groups, DeviceBatchNormWholeBatchTest,
    ::testing::Combine(::testing::Values(1, 3),
                       ::testing::Values(DType::kF32, DType::kF64, DType::kF16, DType::kBF16),
                       ::testing::Values(Layout::kContiguous, Layout::kChannelsLast),
                       ::testing::Bool()),
    CaseName);

TEST(DeviceBatchNormGroupsTest, HostFunctionsGiveTheSameBitsAsStreamMemory) {
  std::mt19937_64 random(Seed(72));
  const BatchNormOptions options{.channels = 7};
  const auto steps = RandomSteps(&random, 2, kSteps, 7, {5}, DType::kF32, false);
  InProcessGroup group(2), other(2);
  const auto one = TrainOnDevice(&group, options, DType::kF32, Layout::kContiguous, steps,
                                 {.waiting = StreamWaiting::kStreamMemory});
  const auto two = TrainOnDevice(&other, options, DType::kF32, Layout::kContiguous, steps,
                                 {.waiting = StreamWaiting::kHostFunction});
  for (int s = 0; s < kSteps; ++s) {
    for (int rank = 0; rank < 2; ++rank) {
      EXPECT_EQ(one[s][rank].y, two[s][rank].y);
      EXPECT_EQ(one[s][rank].dx, two[s][rank].dx);
      EXPECT_EQ(one[s][rank].running_var, two[s][rank].running_var);
    }
  }
}

TEST(DeviceBatchNormGroupsTest, MembersOnTheHostAndOnDevicesMayBeInOneGroup) {
  std::mt19937_64 random(Seed(73));
  const BatchNormOptions options{.channels = 4};
  for (const bool masked : {false, true}) {
    const auto steps = RandomSteps(&random, 3, kSteps, 4, {3}, DType::kF32, masked);
    InProcessGroup group(3);
    ExpectEqualsWholeBatch("device bn mixed", options, DType::kF32, steps,
                           TrainOnDevice(&group, options, DType::kF32, Layout::kContiguous, steps,
                                         {.on_the_host = {1}}));
  }
}

TEST(DeviceBatchNormOptionsTest, CumulativeAverageEqualsTheWholeBatch) {
  std::mt19937_64 random(Seed(74));
  const BatchNormOptions options{.channels = 300, .momentum = std::nullopt};
  const auto steps = RandomSteps(&random, 2, kSteps, 300, {2}, DType::kF32, false);
  InProcessGroup group(2);
  ExpectEqualsWholeBatch("device bn cumulative", options, DType::kF32, steps,
                         TrainOnDevice(&group, options, DType::kF32, Layout::kContiguous, steps));
}

TEST(DeviceBatchNormOptionsTest, NoAffineAndNoRunningStatisticsEqualTheWholeBatch) {
  std::mt19937_64 random(Seed(75));
  const BatchNormOptions options{.channels = 3, .affine = false, .track_running_stats = false};
  const auto steps = RandomSteps(&random, 2, kSteps, 3, {2, 2, 2}, DType::kF64, false);
  InProcessGroup group(2);
  ExpectEqualsWholeBatch("device bn plain", options, DType::kF64, steps,
                         TrainOnDevice(&group, options, DType::kF64, Layout::kChannelsLast, steps));
}

}  // namespace
}  // namespace syncnorm::testing
