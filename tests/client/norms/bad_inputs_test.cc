// Every bad input: a typed error that names the layer, the thing and its value, before
// anything is sent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>
#include <syncnorm/power_norm.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/host_tensor.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string Refusal(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

std::string BatchNormRefusal(const BatchNormOptions& options) {
  return Refusal(SyncBatchNorm::Create("conv1.bn", options, nullptr).status());
}

std::string PowerNormRefusal(const PowerNormOptions& options) {
  return Refusal(SyncPowerNorm::Create("enc.pn", options, nullptr).status());
}

TEST(BadInputTest, BatchNormOptionsAreNamedWithTheirValues) {
  EXPECT_THAT(BatchNormRefusal({.channels = 0}),
              AllOf(HasSubstr("conv1.bn"), HasSubstr("channels is 0")));
  EXPECT_THAT(BatchNormRefusal({.channels = -3}), HasSubstr("channels is -3"));
  EXPECT_THAT(BatchNormRefusal({.channels = 2, .eps = -1e-5}), HasSubstr("eps is -1e-05"));
  EXPECT_THAT(BatchNormRefusal({.channels = 2, .eps = kNan}), HasSubstr("eps is nan"));
  EXPECT_THAT(BatchNormRefusal({.channels = 2, .eps = kInfinity}), HasSubstr("eps is inf"));
  EXPECT_THAT(BatchNormRefusal({.channels = 2, .momentum = 1.5}), HasSubstr("momentum is 1.5"));
  EXPECT_THAT(BatchNormRefusal({.channels = 2, .momentum = -0.1}), HasSubstr("momentum is -0.1"));
  EXPECT_THAT(BatchNormRefusal({.channels = 2, .momentum = kNan}), HasSubstr("momentum is nan"));
  EXPECT_THAT(BatchNormRefusal({.channels = 2, .kept_forwards = -1}),
              HasSubstr("kept_forwards is -1"));
  EXPECT_THAT(Refusal(SyncBatchNorm::Create("", {.channels = 2}, nullptr).status()),
              HasSubstr("name is empty"));
  EXPECT_TRUE(SyncBatchNorm::Create("a", {.channels = 2, .eps = 0, .momentum = 0}, nullptr).ok());
}

TEST(BadInputTest, PowerNormOptionsAreNamedWithTheirValues) {
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .kept_forwards = -1}),
              HasSubstr("kept_forwards is -1"));
  EXPECT_THAT(PowerNormRefusal({.channels = 0}),
              AllOf(HasSubstr("enc.pn"), HasSubstr("channels is 0")));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .eps = kNan}), HasSubstr("eps is nan"));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .eps = -1}), HasSubstr("eps is -1"));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .alpha_fwd = 1}), HasSubstr("alpha_fwd is 1"));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .alpha_fwd = kNan}), HasSubstr("alpha_fwd is nan"));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .alpha_bkw = -0.5}), HasSubstr("alpha_bkw is -0.5"));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .warmup_iters = -1}),
              HasSubstr("warmup_iters is -1"));
  EXPECT_THAT(PowerNormRefusal({.channels = 6, .groups = 4}),
              AllOf(HasSubstr("groups is 4"), HasSubstr("6")));
  EXPECT_THAT(PowerNormRefusal({.channels = 6, .groups = 0}), HasSubstr("groups is 0"));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .group_eps = 0}), HasSubstr("group_eps is 0"));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .semantics = PowerNormSemantics{9}}),
              HasSubstr("semantics is 9"));
  EXPECT_THAT(PowerNormRefusal({.channels = 2, .schedule = PowerNormSchedule{9}}),
              HasSubstr("schedule is 9"));
  EXPECT_THAT(Refusal(SyncPowerNorm::Create("", {.channels = 2}, nullptr).status()),
              HasSubstr("name is empty"));
}

TEST(BadInputTest, ANameCanBeUsedOnceAtATime) {
  InProcessGroup group(1);
  Reducer* reducer = group.member(0);
  auto first = SyncBatchNorm::Create("bn", {.channels = 2}, reducer);
  ASSERT_TRUE(first.ok());
  for (const absl::Status& status :
       {SyncBatchNorm::Create("bn", {.channels = 2}, reducer).status(),
        SyncPowerNorm::Create("bn", {.channels = 2}, reducer).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
    EXPECT_THAT(std::string(status.message()), HasSubstr("bn"));
  }
  first->reset();
  EXPECT_TRUE(SyncPowerNorm::Create("bn", {.channels = 2}, reducer).ok());
}

// A batch norm of three channels, and a group that must not hear of what is refused.
class BatchNormInputTest : public ::testing::Test {
 protected:
  ~BatchNormInputTest() override { EXPECT_TRUE(group_.submitted(0).empty()); }

  std::string ForwardRefusal(const ConstTensor& x, const Tensor& y,
                             const PositionMask* mask = nullptr) {
    const auto state = norm_->State();
    const std::string text = Refusal(norm_->Forward(x, mask, y, nullptr));
    EXPECT_THAT(text, HasSubstr("layer bn"));
    EXPECT_EQ(norm_->State(), state);
    return text;
  }
  std::string BackwardRefusal(const SyncBatchNorm::Context& context, const ConstTensor& dy,
                              const Tensor* dx) {
    const std::string text = Refusal(norm_->Backward(context, dy, dx, nullptr));
    EXPECT_THAT(text, HasSubstr("layer bn"));
    return text;
  }

  InProcessGroup group_{2};
  std::unique_ptr<SyncBatchNorm> norm_ =
      *SyncBatchNorm::Create("bn", {.channels = 3}, group_.member(0));
  std::vector<float> memory_ = std::vector<float>(64);
  Tensor good_ = Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {2, 3, 4});
};

TEST_F(BatchNormInputTest, ForwardNamesWhatIsWrongWithX) {
  EXPECT_THAT(
      ForwardRefusal(Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {2, 4}), good_),
      AllOf(HasSubstr("x is f32 (2, 4)"), HasSubstr("4 channels"), HasSubstr("has 3")));
  EXPECT_THAT(
      ForwardRefusal(Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {3}), good_),
      HasSubstr("rank 2"));
  EXPECT_THAT(ForwardRefusal(Contiguous(static_cast<void*>(nullptr), DType::kF32, {2, 3}), good_),
              HasSubstr("null"));
  EXPECT_THAT(ForwardRefusal({memory_.data(), DType::kF32, {2, 3, 4}, {12, 1, 4}}, good_),
              AllOf(HasSubstr("(12, 1, 4)"), HasSubstr("contiguous")));
}

TEST_F(BatchNormInputTest, ForwardNamesWhatIsWrongWithYAndTheMask) {
  const Tensor half = Contiguous(static_cast<void*>(memory_.data()), DType::kF16, {2, 3, 4});
  EXPECT_THAT(ForwardRefusal(good_, half), AllOf(HasSubstr("y is f16"), HasSubstr("x is f32")));
  const Tensor last = ChannelsLast(static_cast<void*>(memory_.data()), DType::kF32, {2, 3, 4});
  EXPECT_THAT(ForwardRefusal(good_, last), HasSubstr("y is f32 (2, 3, 4) strides (12, 1, 3)"));
  const uint8_t bytes[8] = {0, 1, 2};
  const PositionMask shape{bytes, PositionMask::Type::kByte, {4, 2}};
  EXPECT_THAT(ForwardRefusal(good_, good_, &shape), HasSubstr("(4, 2)"));
  const PositionMask value{bytes, PositionMask::Type::kByte, {2, 4}};
  EXPECT_THAT(ForwardRefusal(good_, good_, &value),
              AllOf(HasSubstr("has 2"), HasSubstr("position 2")));
}

TEST_F(BatchNormInputTest, ParametersMustKeepTheirSizes) {
  norm_->weight().push_back(1);
  EXPECT_THAT(ForwardRefusal(good_, good_), AllOf(HasSubstr("weight"), HasSubstr("4 values")));
  norm_->weight().pop_back();
  norm_->running_var().clear();
  EXPECT_THAT(ForwardRefusal(good_, good_), HasSubstr("running_var was given 0 values"));
}

TEST_F(BatchNormInputTest, BackwardNamesWhatIsWrong) {
  EXPECT_THAT(BackwardRefusal({}, good_, nullptr), HasSubstr("not that of a Forward"));
  auto other = *SyncBatchNorm::Create("other", {.channels = 3}, nullptr);
  SyncBatchNorm::Context context;
  ASSERT_TRUE(other->Forward(good_, nullptr, good_, &context).ok());
  EXPECT_THAT(BackwardRefusal(context, good_, nullptr), HasSubstr("of layer other"));

  norm_->set_training(false);
  ASSERT_TRUE(norm_->Forward(good_, nullptr, good_, &context).ok());
  const Tensor wide = Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {2, 3, 5});
  EXPECT_THAT(BackwardRefusal(context, wide, nullptr),
              AllOf(HasSubstr("dy is f32 (2, 3, 5)"), HasSubstr("x is f32 (2, 3, 4)")));
  const Tensor null = Contiguous(static_cast<void*>(nullptr), DType::kF32, {2, 3, 4});
  EXPECT_THAT(BackwardRefusal(context, null, nullptr), AllOf(HasSubstr("dy"), HasSubstr("null")));
  const Tensor narrow = Contiguous(static_cast<void*>(memory_.data()), DType::kF16, {2, 3, 4});
  EXPECT_THAT(BackwardRefusal(context, good_, &narrow), HasSubstr("dx is f16"));
}

TEST_F(BatchNormInputTest, LoadStateNamesTheEntryAndChangesNothing) {
  const auto state = norm_->State();
  const auto refusal = [&](const std::map<std::string, std::vector<double>>& bad) {
    const std::string text = Refusal(norm_->LoadState(bad));
    EXPECT_THAT(text, HasSubstr("layer bn"));
    EXPECT_EQ(norm_->State(), state);
    return text;
  };
  auto bad = state;
  bad.erase("running_var");
  EXPECT_THAT(refusal(bad), HasSubstr("lacks running_var"));
  bad = state;
  bad["weight"] = {1, 2};
  EXPECT_THAT(refusal(bad), AllOf(HasSubstr("weight has 2"), HasSubstr("must have 3")));
  bad = state;
  bad["ema_gz"] = {1};
  EXPECT_THAT(refusal(bad), AllOf(HasSubstr("ema_gz"), HasSubstr("running_mean")));
  for (double count : {-1.0, 0.5, kNan, 1e300}) {
    bad = state;
    bad["num_batches_tracked"] = {count};
    EXPECT_THAT(refusal(bad), HasSubstr("num_batches_tracked is"));
  }
}

// A PowerNorm of four channels.
class PowerNormInputTest : public ::testing::Test {
 protected:
  ~PowerNormInputTest() override { EXPECT_TRUE(group_.submitted(0).empty()); }

  std::string ForwardRefusal(const ConstTensor& x, const Tensor& y,
                             const uint8_t* padding = nullptr) {
    const auto state = *norm_->State();
    const std::string text = Refusal(norm_->Forward(x, padding, y, nullptr));
    EXPECT_THAT(text, HasSubstr("layer pn"));
    EXPECT_EQ(*norm_->State(), state);
    return text;
  }

  InProcessGroup group_{2};
  std::unique_ptr<SyncPowerNorm> norm_ =
      *SyncPowerNorm::Create("pn", {.channels = 4}, group_.member(0));
  std::vector<float> memory_ = std::vector<float>(64);
  Tensor good_ = Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {3, 2, 4});
};

TEST_F(PowerNormInputTest, ForwardNamesWhatIsWrong) {
  EXPECT_THAT(
      ForwardRefusal(Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {2, 3}), good_),
      AllOf(HasSubstr("x is f32 (2, 3)"), HasSubstr("3 channels"), HasSubstr("has 4")));
  EXPECT_THAT(ForwardRefusal(
                  Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {1, 2, 2, 4}), good_),
              HasSubstr("(T, B, C) or (B, C)"));
  EXPECT_THAT(ForwardRefusal({memory_.data(), DType::kF32, {3, 2, 4}, {4, 12, 1}}, good_),
              HasSubstr("(4, 12, 1)"));
  const Tensor flat = Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {6, 4});
  EXPECT_THAT(ForwardRefusal(good_, flat),
              AllOf(HasSubstr("y is f32 (6, 4)"), HasSubstr("(3, 2, 4)")));
  const uint8_t padding[6] = {0, 0, 0, 7};
  EXPECT_THAT(ForwardRefusal(good_, good_, padding),
              AllOf(HasSubstr("has 7"), HasSubstr("sample 1"), HasSubstr("time 0")));
  norm_->bias().clear();
  EXPECT_THAT(ForwardRefusal(good_, good_), HasSubstr("bias was given 0 values"));
}

TEST_F(PowerNormInputTest, BackwardNamesWhatIsWrong) {
  const auto refusal = [&](const SyncPowerNorm::Context& context, const ConstTensor& dy,
                           const Tensor* dx, double grad_scale) {
    const std::string text = Refusal(norm_->Backward(context, dy, dx, nullptr, grad_scale));
    EXPECT_THAT(text, HasSubstr("layer pn"));
    return text;
  };
  EXPECT_THAT(refusal({}, good_, nullptr, 1), HasSubstr("not that of a Forward"));
  auto other = *SyncPowerNorm::Create("other", {.channels = 4}, nullptr);
  SyncPowerNorm::Context context;
  ASSERT_TRUE(other->Forward(good_, nullptr, good_, &context).ok());
  EXPECT_THAT(refusal(context, good_, nullptr, 1), HasSubstr("of layer other"));
  norm_->set_training(false);
  ASSERT_TRUE(norm_->Forward(good_, nullptr, good_, &context).ok());
  for (double scale : {0.0, -1.0, kNan, kInfinity}) {
    EXPECT_THAT(refusal(context, good_, nullptr, scale), HasSubstr("grad_scale is "));
  }
  const Tensor wide = Contiguous(static_cast<void*>(memory_.data()), DType::kF32, {3, 3, 4});
  EXPECT_THAT(refusal(context, wide, nullptr, 1), HasSubstr("dy is f32 (3, 3, 4)"));
  const Tensor narrow = Contiguous(static_cast<void*>(memory_.data()), DType::kBF16, {3, 2, 4});
  EXPECT_THAT(refusal(context, good_, &narrow, 1), HasSubstr("dx is bf16"));
}

TEST_F(PowerNormInputTest, LoadStateNamesTheEntryAndChangesNothing) {
  const auto state = *norm_->State();
  auto bad = state;
  bad.erase("ema_gz");
  EXPECT_THAT(Refusal(norm_->LoadState(bad)), AllOf(HasSubstr("pn"), HasSubstr("lacks ema_gz")));
  bad = state;
  bad["running_phi"].push_back(1);
  EXPECT_THAT(Refusal(norm_->LoadState(bad)), HasSubstr("running_phi has 5"));
  bad = state;
  bad["iters"] = {2.5};
  EXPECT_THAT(Refusal(norm_->LoadState(bad)), HasSubstr("iters is 2.5"));
  EXPECT_EQ(*norm_->State(), state);
}

// Members that differ are told, all of them, with both values.
TEST(BadInputTest, MembersThatDisagreeAllGetTheSameError) {
  InProcessGroup group(2);
  std::vector<absl::Status> statuses(2);
  group.Run([&](int rank, Reducer* reducer) {
    const int64_t channels = rank == 0 ? 32 : 64;
    auto norm = *SyncBatchNorm::Create("bn", {.channels = channels}, reducer);
    HostTensor x(DType::kF32, {2, channels}, Layout::kContiguous, Numbers(2 * channels, 1));
    statuses[rank] = norm->Forward(x.tensor(), nullptr, x.tensor(), nullptr);
    EXPECT_EQ(norm->running_mean(), Numbers(channels, 0));
    EXPECT_EQ(norm->num_batches_tracked(), 0);
  });
  EXPECT_EQ(statuses[0], statuses[1]);
  EXPECT_THAT(std::string(statuses[0].message()),
              AllOf(HasSubstr("bn"), HasSubstr("32"), HasSubstr("64"), HasSubstr("rank 1")));
}

}  // namespace
}  // namespace syncnorm::testing
