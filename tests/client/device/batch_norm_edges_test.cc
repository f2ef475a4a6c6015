// Batch norm's edges on a device: counts of 0 and 1, empty members, eval, masks that hide all,
// constant channels, null results, results in place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"
#include "tests/support/oracle.h"

namespace syncnorm::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Truly;

using OnDevice = NormOnDevice<BatchNormKind>;
using OnHost = NormOnHost<BatchNormKind>;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const auto kIsNan = Truly([](double number) { return std::isnan(number); });

NormData Of(Numbers x, Numbers dy, std::vector<uint8_t> mask = {}) {
  NormData data;
  data.x = std::move(x);
  data.dy = std::move(dy);
  data.mask = std::move(mask);
  return data;
}

// E1.
TEST(DeviceBatchNormEdgeTest, AGroupOfEmptyBatchesLeavesAllStatisticsUntouched) {
  for (std::optional<double> momentum : {std::optional<double>(0.1), std::optional<double>()}) {
    InProcessGroup group(3);
    group.Run([&](int, Reducer* member) {
      const auto reducer = OnStreams(member);
      OnDevice norm({.channels = 2, .momentum = momentum}, reducer.get());
      norm.first().Store({0.3, kNan});
      norm.second().Store({0.7, 5});
      const NormResult result = norm.Step(NormData());
      const NormState state = norm.State();
      EXPECT_EQ(state.at("running_mean")[0], 0.3);
      EXPECT_TRUE(std::isnan(state.at("running_mean")[1]));
      EXPECT_EQ(state.at("running_var"), (Numbers{0.7, 5}));
      EXPECT_EQ(state.at("num_batches_tracked"), Numbers{0});
      EXPECT_EQ(result.weight, Numbers(2, 0));
      EXPECT_EQ(result.bias, Numbers(2, 0));
    });
    EXPECT_EQ(group.completed(), 2u);
  }
}

TEST(DeviceBatchNormEdgeTest, MasksThatHideAllGiveZerosAndLeaveStatisticsUntouched) {
  for (int world : {1, 2}) {
    InProcessGroup group(world);
    group.Run([&](int, Reducer* member) {
      const auto reducer = OnStreams(member);
      OnDevice norm({.channels = 2}, reducer.get(), DType::kF32);
      const NormResult result = norm.Step(Of(Numbers(6, kNan), Numbers(6, kNan), {0, 0, 0}));
      EXPECT_EQ(result.y, Numbers(6, 0));
      EXPECT_EQ(result.dx, Numbers(6, 0));
      EXPECT_EQ(result.weight, Numbers(2, 0));
      EXPECT_EQ(norm.State().at("running_var"), Numbers(2, 1));
      EXPECT_EQ(norm.State().at("num_batches_tracked"), Numbers{0});
    });
  }
}

// E2: one value in the whole group.
TEST(DeviceBatchNormEdgeTest, OneValueInTheWholeGroupGivesTheBiasAndMovesOnlyTheMean) {
  for (bool alone : {true, false}) {
    InProcessGroup group(alone ? 1 : 3);
    group.Run([&](int rank, Reducer* member) {
      const auto reducer = OnStreams(member);
      OnDevice norm({.channels = 2}, reducer.get(), DType::kF32);
      norm.weight().Store({5, 6});
      norm.bias().Store({-1, 2});
      const NormResult result = norm.Step(rank == 0 ? Of({40, -7}, {3, 0.1}) : NormData());
      EXPECT_EQ(norm.State().at("running_mean"), (Numbers{0.1 * 40, 0.1 * -7}));
      EXPECT_EQ(norm.State().at("running_var"), (Numbers{1, 1}));
      EXPECT_EQ(norm.State().at("num_batches_tracked"), Numbers{1});
      EXPECT_EQ(result.weight, (Numbers{0, 0}));
      if (rank > 0) return;
      EXPECT_EQ(result.y, (Numbers{-1, 2}));
      EXPECT_EQ(result.dx, (Numbers{0, 0}));
      EXPECT_EQ(result.bias, (Numbers{3, static_cast<double>(0.1f)}));
    });
  }
}

TEST(DeviceBatchNormEdgeTest, AConstantChannelGivesTheBiasEvenWithoutEpsilon) {
  OnDevice norm({.channels = 1, .eps = 0, .momentum = 1}, nullptr, DType::kF32);
  norm.bias().Store({7});
  const NormResult result = norm.Step(Of(Numbers(5, 1e4 / 3), {1, 2, 3, 4, 5}));
  EXPECT_EQ(result.y, Numbers(5, 7));
  EXPECT_EQ(result.dx, Numbers(5, 0));
  EXPECT_EQ(norm.State().at("running_var"), Numbers{0});
}

TEST(DeviceBatchNormEdgeTest, WhatIsNotFiniteIsNotHidden) {
  for (double bad : {kNan, kInfinity}) {
    OnDevice norm({.channels = 1}, nullptr, DType::kF32);
    EXPECT_TRUE(std::isnan(norm.Step(Of({1, bad, 3}, {1, 1, 1})).y[0]));
    EXPECT_FALSE(std::isfinite(norm.State().at("running_mean")[0]));
  }
}

// A member beside one that brings nothing is a group of one.
TEST(DeviceBatchNormEdgeTest, TheLocalPathIsAGroupOfOneBitForBit) {
  std::mt19937_64 random(Seed(121));
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    for (bool masked : {false, true}) {
      std::vector<NormData> steps;
      for (int s = 0; s < 4; ++s) steps.emplace_back(&random, 7, 200, masked);
      const BatchNormOptions options{.channels = 200, .momentum = std::nullopt};
      std::vector<NormResult> alone;
      OnDevice local(options, nullptr, dtype);
      for (const NormData& step : steps) alone.push_back(local.Step(step));
      InProcessGroup group(2);
      group.Run([&](int rank, Reducer* member) {
        const auto reducer = OnStreams(member);
        OnDevice norm(options, reducer.get(), dtype);
        for (size_t s = 0; s < steps.size(); ++s) {
          const NormResult result = norm.Step(rank == 0 ? steps[s] : NormData());
          if (rank == 0) {
            EXPECT_EQ(result, alone[s]);
          }
        }
        EXPECT_EQ(norm.State(), local.State());
      });
    }
  }
}

TEST(DeviceBatchNormEdgeTest, MembersOnTheHostAndOnDevicesHoldTheSameBits) {
  std::mt19937_64 random(Seed(122));
  for (DType dtype : {DType::kF32, DType::kF64}) {
    for (std::optional<double> momentum : {std::optional<double>(0.1), std::optional<double>()}) {
      std::vector<std::vector<NormData>> data(2);
      for (auto& steps : data) {
        for (int s = 0; s < 5; ++s) steps.emplace_back(&random, 6 + s, 3, s % 2 == 1);
      }
      std::vector<NormState> states(2);
      InProcessGroup group(2);
      group.Run([&](int rank, Reducer* member) {
        const auto reducer = OnStreams(member);
        const BatchNormOptions options{.channels = 3, .momentum = momentum};
        if (rank == 0) {
          OnHost norm(options, reducer.get(), dtype);  // in the order of the device's rounds
          for (const NormData& step : data[0]) norm.Step(step);
          states[0] = norm.Drained();
        } else {
          OnDevice norm(options, reducer.get(), dtype);
          for (const NormData& step : data[1]) norm.Step(step);
          states[1] = norm.State();
        }
      });
      EXPECT_EQ(states[0], states[1]);
    }
  }
}

TEST(DeviceBatchNormEvalTest, UsesRunningStatisticsAndNeverTheGroup) {
  InProcessGroup group(2);
  const auto reducer = OnStreams(group.member(0));
  OnDevice norm({.channels = 2}, reducer.get());
  EXPECT_TRUE(norm->need_sync());
  norm->set_training(false);
  EXPECT_FALSE(norm->need_sync());
  norm.first().Store({1, -2});
  norm.second().Store({4, 0.25});
  norm.weight().Store({3, 0.5});
  norm.bias().Store({10, 20});
  std::mt19937_64 random(Seed(123));
  const NormData data(&random, 12, 2);
  const NormResult result = norm.Step(data);

  BatchNormOracle oracle(2);
  oracle.running_mean = {1, -2};
  oracle.running_var = {4, 0.25};
  oracle.weight = {3, 0.5};
  oracle.bias = {10, 20};
  ExpectClose("device bn eval y", result.y, oracle.Infer(data.x), 1e-14);
  Numbers want_dx, want_dw(2), want_db(2);
  for (size_t i = 0; i < 24; ++i) {
    const size_t c = i % 2;
    const double s = 1 / std::sqrt(static_cast<double>(oracle.running_var[c]) + 1e-5);
    want_dx.push_back(data.dy[i] * oracle.weight[c] * s);
    want_dw[c] += data.dy[i] * (data.x[i] - static_cast<double>(oracle.running_mean[c])) * s;
    want_db[c] += data.dy[i];
  }
  ExpectClose("device bn eval dx", result.dx, want_dx, 1e-14);
  ExpectClose("device bn eval dw db", Concatenate({result.weight, result.bias}),
              Concatenate({want_dw, want_db}), 1e-14);
  EXPECT_EQ(norm.State().at("num_batches_tracked"), Numbers{0});
  EXPECT_TRUE(group.submitted(0).empty());
}

// One member evaluates alone; nobody hangs, and the members' next training step is still one.
TEST(DeviceBatchNormEvalTest, OneMemberMayEvaluateAloneByLocalStatistics) {
  std::mt19937_64 random(Seed(124));
  const NormData data(&random, 160, 2);
  InProcessGroup group(2);
  group.Run([&](int rank, Reducer* member) {
    const auto reducer = OnStreams(member);
    OnDevice norm({.channels = 2, .affine = false, .track_running_stats = false}, reducer.get());
    if (rank == 0) {
      norm->set_training(false);
      BatchNormOracle oracle(2);
      BatchNormOracle::Saved saved;
      const Numbers want = oracle.Forward(data.x, {}, &saved);
      for (int i = 0; i < 6; ++i) {
        const NormResult result = norm.Step(data);
        ExpectClose("device bn eval by local statistics", result.y, want, 1e-12);
        ExpectClose("device bn eval by local statistics", result.dx,
                    oracle.Backward(saved, data.dy).dx, 1e-12);
      }
      EXPECT_TRUE(group.submitted(0).empty());
      norm->set_training(true);
    }
    const auto call = norm.Prepare(data);
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    norm.stream().Synchronize();
  });
  EXPECT_THAT(group.submitted(0), ElementsAre("forward norm step 1"));
}

TEST(DeviceBatchNormRoundsTest, BackwardWithoutDxIsNoRound) {
  InProcessGroup group(2);
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    OnDevice norm({.channels = 1}, reducer.get(), DType::kF32);
    const auto first = norm.Prepare(Of({1, 2, 3, 4}, {1, 2, 3, 4}));
    const auto second = norm.Prepare(Of({1, 2, 3, 4}, {1, 2, 3, 4}));
    ASSERT_TRUE(norm.Forward(first.get()).ok());
    ASSERT_TRUE(norm.Forward(second.get()).ok());
    ASSERT_TRUE(norm.Backward(second.get()).ok());
    DeviceNumbers bias(norm.stream(), DType::kF64, {kNan});
    const DeviceBatchNorm::Gradients gradients{{}, bias.values()};
    ASSERT_TRUE(
        norm->Backward(first->context, first->dy(), nullptr, &gradients, norm.stream().get()).ok());
    ASSERT_TRUE(
        norm->Backward(first->context, first->dy(), nullptr, nullptr, norm.stream().get()).ok());
    EXPECT_EQ(bias.Load(), Numbers{10});
  });
  EXPECT_THAT(group.submitted(1),
              ElementsAre("forward norm step 1", "forward norm step 2", "backward norm step 2"));
}

TEST(DeviceBatchNormRoundsTest, SeveralContextsMayBeInFlightInAnyOrder) {
  std::mt19937_64 random(Seed(125));
  std::vector<NormData> data;
  for (int n = 0; n < 12; ++n) data.emplace_back(&random, 5, 3);  // more than are kept
  std::vector<NormResult> one_by_one(data.size());
  OnDevice sequential({.channels = 3}, nullptr);
  for (size_t n = 0; n < data.size(); ++n) one_by_one[n] = sequential.Step(data[n]);
  OnDevice norm({.channels = 3}, nullptr);
  std::vector<std::unique_ptr<OnDevice::Call>> calls;
  for (const NormData& each : data) {
    calls.push_back(norm.Prepare(each));
    ASSERT_TRUE(norm.Forward(calls.back().get()).ok());
  }
  for (size_t n : {3u, 11u, 0u, 7u, 1u, 2u, 4u, 5u, 6u, 8u, 9u, 10u}) {
    ASSERT_TRUE(norm.Backward(calls[n].get()).ok());
  }
  for (size_t n = 0; n < data.size(); ++n) EXPECT_EQ(calls[n]->Load(), one_by_one[n]) << n;
}

TEST(DeviceBatchNormRoundsTest, InPlaceEqualsOutOfPlace) {
  std::mt19937_64 random(Seed(126));
  const NormData data(&random, 16, 3);
  OnDevice norm({.channels = 3}, nullptr, DType::kF32);
  const NormResult want = norm.Step(data);
  const auto call = norm.Prepare(data);
  const cudaStream_t stream = norm.stream().get();
  ASSERT_TRUE(norm.Forward(call.get()).ok());
  const Tensor dy = call->dy();
  ASSERT_TRUE(norm->Backward(call->context, dy, &dy, nullptr, stream).ok());
  ASSERT_TRUE(norm->Forward(call->x(), nullptr, call->x(), nullptr, stream).ok());
  const auto load = [&](const Tensor& from) {
    std::vector<float> floats(static_cast<size_t>(from.elements()));
    SYNCNORM_EXPECT_CUDA(cudaMemcpyAsync(floats.data(), from.data, floats.size() * sizeof(float),
                                         cudaMemcpyDeviceToHost, stream));
    norm.stream().Synchronize();
    return Numbers(floats.begin(), floats.end());
  };
  EXPECT_EQ(load(dy), want.dx);
  EXPECT_EQ(load(call->x()), want.y);
}

// Values that every dtype holds exactly; what comes out is rounded once.
TEST(DeviceBatchNormParametersTest, AreOfAnyDTypeAndStatisticsOfTwo) {
  std::mt19937_64 random(Seed(127));
  const NormData data(&random, 16, 3);
  OnDevice norm({.channels = 3}, nullptr);
  const NormResult want = norm.Step(data);
  const NormState want_state = norm.State();
  const auto rounded = [](DType dtype, const Numbers& numbers) {
    return HostTensor(dtype, {3, 1}, Layout::kContiguous, numbers).Load();
  };
  for (DType parameters : {DType::kF32, DType::kF16, DType::kBF16}) {
    OnDevice other({.channels = 3}, nullptr, DType::kF64, "norm", 0, parameters, DType::kF32);
    const NormResult result = other.Step(data);
    EXPECT_EQ(result.y, want.y);
    EXPECT_EQ(result.dx, want.dx);
    EXPECT_EQ(result.weight, rounded(parameters, want.weight));
    EXPECT_EQ(result.bias, rounded(parameters, want.bias));
    // The momentum starts from 0 and 1, which are exact.
    EXPECT_EQ(other.State().at("running_mean"),
              rounded(DType::kF32, want_state.at("running_mean")));
    EXPECT_EQ(other.State().at("running_var"), rounded(DType::kF32, want_state.at("running_var")));
  }
}

TEST(DeviceBatchNormStateTest, SynchronisesOnlyWhereThereIsAGroup) {
  InProcessGroup one(1), two(2);
  const auto alone = OnStreams(one.member(0)), both = OnStreams(two.member(0));
  EXPECT_FALSE(OnDevice({.channels = 1}, nullptr)->need_sync());
  EXPECT_FALSE(OnDevice({.channels = 1}, alone.get())->need_sync());
  OnDevice norm({.channels = 1}, both.get());
  EXPECT_TRUE(norm->need_sync());
  two.Disconnect();
  EXPECT_FALSE(norm->need_sync());
  // It goes on by itself.
  EXPECT_THAT(norm.Step(Of({1, 2}, {1, 1})).y,
              Each(Truly([](double y) { return std::isfinite(y); })));
}

}  // namespace
}  // namespace syncnorm::testing
