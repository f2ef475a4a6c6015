// Batch norm's edges: counts of 0 and 1, empty members, eval, masks that hide all, constant
// channels, null results, checkpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/client/norms/batch_norm_run.h"
#include "tests/support/compare.h"
#include "tests/support/oracle.h"

namespace syncnorm::testing {
namespace {

using ::testing::ElementsAre;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Tensor Floats(std::vector<float>* values, std::vector<int64_t> shape) {
  return Contiguous(static_cast<void*>(values->data()), DType::kF32, std::move(shape));
}

// E1.
TEST(BatchNormEdgeTest, AGroupOfEmptyBatchesLeavesAllStatisticsUntouched) {
  for (std::optional<double> momentum : {std::optional<double>(0.1), std::optional<double>()}) {
    InProcessGroup group(3);
    group.Run([&](int, Reducer* reducer) {
      auto norm = *SyncBatchNorm::Create("bn", {.channels = 2, .momentum = momentum}, reducer);
      norm->running_mean() = {0.3, kNan};
      norm->running_var() = {0.7, 5};
      HostTensor x(DType::kF32, {0, 2, 11, 13}, Layout::kContiguous), dx = x;
      SyncBatchNorm::Context context;
      ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, x.tensor(), &context).ok());
      SyncBatchNorm::Gradients gradients;
      const Tensor dx_tensor = dx.tensor();
      ASSERT_TRUE(norm->Backward(context, x.tensor(), &dx_tensor, &gradients).ok());
      EXPECT_EQ(norm->running_mean()[0], 0.3);
      EXPECT_TRUE(std::isnan(norm->running_mean()[1]));
      EXPECT_EQ(norm->running_var(), (Numbers{0.7, 5}));
      EXPECT_EQ(norm->num_batches_tracked(), 0);
      EXPECT_EQ(gradients.weight, (Numbers{0, 0}));
      EXPECT_EQ(gradients.bias, (Numbers{0, 0}));
    });
    EXPECT_EQ(group.completed(), 2u);
  }
}

TEST(BatchNormEdgeTest, AGroupWhoseMasksHideAllGivesZerosAndLeavesStatisticsUntouched) {
  InProcessGroup group(2);
  group.Run([&](int, Reducer* reducer) {
    auto norm = *SyncBatchNorm::Create("bn", {.channels = 2}, reducer);
    norm->bias() = {3, 4};
    const HostTensor x(DType::kF32, {3, 2}, Layout::kContiguous);  // all NaN
    HostTensor y = x, dx = x;
    const uint8_t none[3] = {};
    const PositionMask mask{none, PositionMask::Type::kByte, {3}};
    SyncBatchNorm::Context context;
    ASSERT_TRUE(norm->Forward(x.tensor(), &mask, y.tensor(), &context).ok());
    SyncBatchNorm::Gradients gradients;
    const Tensor dx_tensor = dx.tensor();
    ASSERT_TRUE(norm->Backward(context, x.tensor(), &dx_tensor, &gradients).ok());
    EXPECT_EQ(y.Load(), Numbers(6, 0));
    EXPECT_EQ(dx.Load(), Numbers(6, 0));
    EXPECT_EQ(gradients.weight, Numbers(2, 0));
    EXPECT_EQ(norm->running_var(), Numbers(2, 1));
    EXPECT_EQ(norm->num_batches_tracked(), 0);
  });
}

// E2: one value in the whole group.
TEST(BatchNormEdgeTest, OneValueInTheWholeGroupGivesTheBiasAndMovesOnlyTheMean) {
  for (bool alone : {true, false}) {
    InProcessGroup group(alone ? 1 : 3);
    group.Run([&](int rank, Reducer* reducer) {
      auto norm = *SyncBatchNorm::Create("bn", {.channels = 2}, reducer);
      norm->weight() = {5, 6};
      norm->bias() = {-1, 2};
      const int64_t samples = rank == 0 ? 1 : 0;
      const HostTensor x(DType::kF32, {samples, 2}, Layout::kContiguous, {40, -7});
      const HostTensor dy(DType::kF32, {samples, 2}, Layout::kContiguous, {3, 0.1});
      HostTensor y = x, dx = x;
      SyncBatchNorm::Context context;
      ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
      SyncBatchNorm::Gradients gradients;
      const Tensor dx_tensor = dx.tensor();
      ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, &gradients).ok());
      EXPECT_EQ(context.count, 1u);
      EXPECT_EQ(norm->running_mean(), (Numbers{0.1 * 40, 0.1 * -7}));
      EXPECT_EQ(norm->running_var(), (Numbers{1, 1}));
      EXPECT_EQ(norm->num_batches_tracked(), 1);
      EXPECT_EQ(gradients.weight, (Numbers{0, 0}));
      if (rank > 0) return;
      EXPECT_EQ(y.Load(), (Numbers{-1, 2}));
      EXPECT_EQ(dx.Load(), (Numbers{0, 0}));
      EXPECT_EQ(gradients.bias, (Numbers{3, static_cast<double>(0.1f)}));
    });
  }
}

TEST(BatchNormEdgeTest, AConstantChannelGivesTheBiasEvenWithoutEpsilon) {
  auto norm = *SyncBatchNorm::Create("bn", {.channels = 1, .eps = 0, .momentum = 1}, nullptr);
  norm->bias() = {7};
  HostTensor x(DType::kF32, {5, 1}, Layout::kContiguous, Numbers(5, 1e4 / 3));
  const HostTensor dy(DType::kF32, {5, 1}, Layout::kContiguous, {1, 2, 3, 4, 5});
  HostTensor y = x, dx = x;
  SyncBatchNorm::Context context;
  ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
  const Tensor dx_tensor = dx.tensor();
  ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, nullptr).ok());
  EXPECT_EQ(y.Load(), Numbers(5, 7));
  EXPECT_EQ(dx.Load(), Numbers(5, 0));
  EXPECT_EQ(norm->running_var(), Numbers{0});
}

TEST(BatchNormEdgeTest, ANotANumberIsNotHidden) {
  auto norm = *SyncBatchNorm::Create("bn", {.channels = 1}, nullptr);
  std::vector<float> values = {1, std::numeric_limits<float>::quiet_NaN(), 3};
  std::vector<float> y(3);
  ASSERT_TRUE(norm->Forward(Floats(&values, {3, 1}), nullptr, Floats(&y, {3, 1}), nullptr).ok());
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_TRUE(std::isnan(norm->running_mean()[0]));
}

TEST(BatchNormEvalTest, UsesRunningStatisticsAndNeverTheGroup) {
  InProcessGroup group(2);
  auto norm = *SyncBatchNorm::Create("bn", {.channels = 2}, group.member(0));
  EXPECT_TRUE(norm->need_sync());
  norm->set_training(false);
  EXPECT_FALSE(norm->need_sync());
  norm->running_mean() = {1, -2};
  norm->running_var() = {4, 0.25};
  norm->weight() = {3, 0.5};
  norm->bias() = {10, 20};
  std::mt19937_64 random(Seed(61));
  const Numbers numbers = Normal(&random, 24), gradient = Normal(&random, 24);
  const HostTensor x(DType::kF64, {3, 2, 4}, Layout::kContiguous, numbers);
  const HostTensor dy(DType::kF64, {3, 2, 4}, Layout::kContiguous, gradient);
  HostTensor y = x, dx = x;
  SyncBatchNorm::Context context;
  ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
  SyncBatchNorm::Gradients gradients;
  const Tensor dx_tensor = dx.tensor();
  ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, &gradients).ok());

  BatchNormOracle oracle(2);
  oracle.running_mean = {1, -2};
  oracle.running_var = {4, 0.25};
  oracle.weight = {3, 0.5};
  oracle.bias = {10, 20};
  ExpectClose("bn eval y", y.Load(), oracle.Infer(numbers), 1e-14);
  Numbers want_dx, want_dw(2), want_db(2);
  for (size_t i = 0; i < 24; ++i) {
    const size_t c = i % 2;
    const double s = 1 / std::sqrt(static_cast<double>(oracle.running_var[c]) + 1e-5);
    want_dx.push_back(gradient[i] * oracle.weight[c] * s);
    want_dw[c] += gradient[i] * (numbers[i] - static_cast<double>(oracle.running_mean[c])) * s;
    want_db[c] += gradient[i];
  }
  ExpectClose("bn eval dx", dx.Load(), want_dx, 1e-14);
  ExpectClose("bn eval dw db", Concatenate({gradients.weight, gradients.bias}),
              Concatenate({want_dw, want_db}), 1e-14);
  EXPECT_EQ(norm->num_batches_tracked(), 0);
  EXPECT_TRUE(group.submitted(0).empty());
}

// PyTorch's test_ddp_inference: one member evaluates alone; nobody hangs, and the
// members' next training step is still one.
TEST(BatchNormEvalTest, OneMemberMayEvaluateAloneByLocalStatistics) {
  std::mt19937_64 random(Seed(62));
  const Numbers numbers = Normal(&random, 10 * 2 * 16), gradient = Normal(&random, 10 * 2 * 16);
  InProcessGroup group(2);
  group.Run([&](int rank, Reducer* reducer) {
    auto norm =
        *SyncBatchNorm::Create("bn", {.channels = 2, .track_running_stats = false}, reducer);
    const HostTensor x(DType::kF32, {10, 2, 4, 4}, Layout::kContiguous, numbers);
    const HostTensor dy(DType::kF32, {10, 2, 4, 4}, Layout::kContiguous, gradient);
    HostTensor y = x;
    if (rank == 0) {
      norm->set_training(false);
      BatchNormOracle oracle(2);
      BatchNormOracle::Saved saved;
      const Numbers want = oracle.Forward(x.Load(), {}, &saved);
      for (int i = 0; i < 6; ++i) {
        SyncBatchNorm::Context context;
        ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
        ExpectClose("bn eval by local statistics", y.Load(), want, 2e-6);
        EXPECT_FALSE(context.synchronised);
        HostTensor dx = x;
        const Tensor dx_tensor = dx.tensor();
        ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, nullptr).ok());
        ExpectClose("bn eval by local statistics", dx.Load(), oracle.Backward(saved, dy.Load()).dx,
                    2e-6);
      }
      EXPECT_TRUE(group.submitted(0).empty());
      norm->set_training(true);
    }
    ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), nullptr).ok());
  });
  EXPECT_THAT(group.submitted(0), ElementsAre("forward bn step 1"));
}

TEST(BatchNormRoundsTest, BackwardWithoutDxIsNoRound) {
  InProcessGroup group(2);
  group.Run([&](int, Reducer* reducer) {
    auto norm = *SyncBatchNorm::Create("bn", {.channels = 1}, reducer);
    HostTensor x(DType::kF32, {4, 1}, Layout::kContiguous, {1, 2, 3, 4});
    HostTensor y = x, dx = x;
    SyncBatchNorm::Context first, second;
    ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &first).ok());
    ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &second).ok());
    SyncBatchNorm::Gradients gradients;
    const Tensor dx_tensor = dx.tensor();
    ASSERT_TRUE(norm->Backward(second, x.tensor(), &dx_tensor, nullptr).ok());
    ASSERT_TRUE(norm->Backward(first, x.tensor(), nullptr, &gradients).ok());
    EXPECT_EQ(gradients.bias, Numbers{10});
  });
  EXPECT_THAT(group.submitted(1),
              ElementsAre("forward bn step 1", "forward bn step 2", "backward bn step 2"));
}

TEST(BatchNormRoundsTest, AFailedForwardMovesNothing) {
  InProcessGroup group(2);
  group.FailRound(1, absl::DeadlineExceededError("rank 1 is missing"));
  group.FailRound(3, absl::AbortedError("rank 1 is gone"));
  group.Run([&](int, Reducer* reducer) {
    auto norm = *SyncBatchNorm::Create("bn", {.channels = 1}, reducer);
    HostTensor x(DType::kF32, {4, 1}, Layout::kContiguous, {1, 2, 3, 4}), y = x, dx = x;
    const auto before = norm->State();
    SyncBatchNorm::Context context;
    EXPECT_EQ(norm->Forward(x.tensor(), nullptr, y.tensor(), &context),
              absl::DeadlineExceededError("rank 1 is missing"));
    EXPECT_EQ(norm->State(), before);
    EXPECT_TRUE(context.layer.empty());
    EXPECT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
    const Tensor dx_tensor = dx.tensor();
    EXPECT_EQ(norm->Backward(context, x.tensor(), &dx_tensor, nullptr),
              absl::AbortedError("rank 1 is gone"));
  });
}

// Activation checkpointing runs a forward again: the same bits come out, and, as in
// PyTorch, the running statistics move again.
TEST(BatchNormRoundsTest, TheSameForwardTwiceGivesTheSameBits) {
  std::mt19937_64 random(Seed(63));
  InProcessGroup group(2);
  const Numbers numbers = Normal(&random, 48);
  group.Run([&](int, Reducer* reducer) {
    auto norm = *SyncBatchNorm::Create("bn", {.channels = 3}, reducer);
    const HostTensor x(DType::kF32, {4, 3, 4}, Layout::kContiguous, numbers);
    HostTensor once = x, again = x;
    ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, once.tensor(), nullptr).ok());
    ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, again.tensor(), nullptr).ok());
    EXPECT_EQ(once.bytes(), again.bytes());
    EXPECT_EQ(norm->num_batches_tracked(), 2);
  });
}

TEST(BatchNormRoundsTest, InPlaceEqualsOutOfPlace) {
  std::mt19937_64 random(Seed(64));
  const Numbers numbers = Normal(&random, 48);
  HostTensor x(DType::kF32, {4, 3, 4}, Layout::kContiguous, numbers), y = x;
  auto norm = *SyncBatchNorm::Create("bn", {.channels = 3}, nullptr);
  SyncBatchNorm::Context context;
  ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
  HostTensor dx = x, dy = x;
  const Tensor dx_tensor = dx.tensor(), dy_tensor = dy.tensor();
  ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, nullptr).ok());
  ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dy_tensor, nullptr).ok());
  EXPECT_EQ(dx.bytes(), dy.bytes());
  ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, x.tensor(), nullptr).ok());
  EXPECT_EQ(x.bytes(), y.bytes());
}

TEST(BatchNormStateTest, HasPyTorchsNamesAndRestoresTheLayer) {
  auto norm = *SyncBatchNorm::Create("bn", {.channels = 2}, nullptr);
  const std::map<std::string, std::vector<double>> fresh = {{"weight", {1, 1}},
                                                            {"bias", {0, 0}},
                                                            {"running_mean", {0, 0}},
                                                            {"running_var", {1, 1}},
                                                            {"num_batches_tracked", {0}}};
  EXPECT_EQ(norm->State(), fresh);
  HostTensor x(DType::kF64, {3, 2}, Layout::kContiguous, {1, 2, 3, 4, 5, 7});
  ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, x.tensor(), nullptr).ok());
  auto other = *SyncBatchNorm::Create("bn", {.channels = 2}, nullptr);
  ASSERT_TRUE(other->LoadState(norm->State()).ok());
  EXPECT_EQ(other->State(), norm->State());
  EXPECT_EQ(other->num_batches_tracked(), 1);
  auto bare = *SyncBatchNorm::Create(
      "bn", {.channels = 2, .affine = false, .track_running_stats = false}, nullptr);
  EXPECT_TRUE(bare->State().empty());
  EXPECT_TRUE(bare->LoadState({}).ok());
}

TEST(BatchNormStateTest, SynchronisesOnlyWhereThereIsAGroup) {
  InProcessGroup one(1), two(2);
  EXPECT_FALSE((*SyncBatchNorm::Create("a", {.channels = 1}, nullptr))->need_sync());
  EXPECT_FALSE((*SyncBatchNorm::Create("a", {.channels = 1}, one.member(0)))->need_sync());
  auto norm = *SyncBatchNorm::Create("a", {.channels = 1}, two.member(0));
  EXPECT_TRUE(norm->need_sync());
  two.Disconnect();
  EXPECT_FALSE(norm->need_sync());
}

}  // namespace
}  // namespace syncnorm::testing
