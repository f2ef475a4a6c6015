// What an adapter to another library's modules needs of the layers on a device, as adapter_test.cc
// of the CPU's: options and parameters that change between calls, and rounds that are waited for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/recompute.h>

#include <optional>
#include <random>
#include <string>

#include "absl/time/time.h"
#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kChannels = 3, kPositions = 4;

TEST(DeviceAdapterTest, EpsAndMomentumMayChangeBetweenCalls) {
  NormOnDevice<BatchNormKind> norm({.channels = kChannels}, nullptr);
  ASSERT_TRUE(norm->SetEpsAndMomentum(3, 1.0).ok());
  NormData data;
  for (int64_t p = 0; p < kPositions; ++p) {  // mean 5, biased variance 1
    data.x.insert(data.x.end(), kChannels, p % 2 == 0 ? 4 : 6);
  }
  data.dy = data.x;
  const NormResult result = norm.Step(data);
  EXPECT_EQ(norm.first().Load(), Numbers(kChannels, 5));
  // y = (x - 5) / sqrt(1 + 3) * weight + bias, with the weight 1 and the bias -0.5 of channel 0.
  EXPECT_DOUBLE_EQ(result.y[0], -1.0);

  EXPECT_TRUE(absl::IsInvalidArgument(norm->SetEpsAndMomentum(-1, 0.5)));
  EXPECT_TRUE(absl::IsInvalidArgument(norm->SetEpsAndMomentum(3, 7.0)));
  EXPECT_EQ(norm->options().eps, 3);
}

TEST(DeviceAdapterTest, ACumulativeAverageNeedsItsCounter) {
  NormOnDevice<BatchNormKind> norm({.channels = kChannels}, nullptr);
  ASSERT_TRUE(norm->SetEpsAndMomentum(1e-5, std::nullopt).ok());
  ASSERT_TRUE(norm->SetEpsAndMomentum(1e-5, 0.1).ok());
  DeviceBatchNormTensors tensors = norm.tensors();
  tensors.num_batches_tracked = nullptr;
  ASSERT_TRUE(norm->set_tensors(tensors).ok());
  const absl::Status refused = norm->SetEpsAndMomentum(1e-5, std::nullopt);
  EXPECT_TRUE(absl::IsInvalidArgument(refused));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("num_batches_tracked is null"));
}

TEST(DeviceAdapterTest, AfterWarmUpParametersMayChangeWithStatisticsUnderWay) {
  std::mt19937_64 random(Seed(131));
  const NormData data(&random, kPositions, kChannels);
  InProcessGroup group(2);
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<PowerNormKind> norm({.channels = kChannels, .warmup_iters = 0}, reducer.get());
    const auto call = norm.Prepare(data);
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    const Numbers before = call->LoadY();
    EXPECT_TRUE(absl::IsFailedPrecondition(norm->set_tensors(norm.tensors())));
    EXPECT_TRUE(absl::IsInvalidArgument(norm->set_parameters({}, norm.bias().values())));
    // The bias is the weight now, 1.5 more; a repetition has all else alike.
    EXPECT_TRUE(norm->set_parameters(norm.weight().values(), norm.weight().values()).ok());
    const RecomputeScope again;
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    const Numbers after = call->LoadY();
    for (size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i] - before[i], 1.5, 1e-12);
    EXPECT_TRUE(norm.Drain().ok());
  });
}

TEST(DeviceAdapterTest, ResultsThatHaveNotComeAreWaitedForAsLongAsOneLikes) {
  std::mt19937_64 random(Seed(132));
  const NormData data(&random, kPositions, kChannels);
  InProcessGroup group(2);
  Meeting meeting(2);
  group.Hold();
  group.Run([&](int rank, Reducer* member) {
    const auto reducer = OnStreams(member);
    EXPECT_TRUE(reducer->WaitForResults(absl::ZeroDuration()));  // of none
    NormOnDevice<BatchNormKind> norm({.channels = kChannels}, reducer.get());
    const auto call = norm.Prepare(data);
    EXPECT_TRUE(norm.Forward(call.get()).ok());
    EXPECT_FALSE(reducer->WaitForResults(absl::Milliseconds(1)));
    meeting.Wait();
    if (rank == 0) group.Release();
    EXPECT_TRUE(reducer->WaitForResults(absl::Seconds(20)));
    EXPECT_EQ(reducer->counters().results, 1u);
  });
}

TEST(DeviceAdapterTest, ADeviceIsToldFromOneThatThereIsNot) {
  EXPECT_TRUE(CheckDevice(0).ok());
  for (const int device : {-1, 1000}) {
    const absl::Status status = CheckDevice(device);
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("this process has devices 0 to"));
  }
}

}  // namespace
}  // namespace syncnorm::testing
