// Every bad input on a device: a typed error that names the layer, the thing and its value, before
// anything is enqueued or sent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kChannels = 3, kPositions = 4;

std::string Refusal(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

template <typename Kind>
class DeviceInputTest : public ::testing::Test {
 protected:
  using OnDevice = NormOnDevice<Kind>;
  using Norm = typename Kind::Norm;
  ~DeviceInputTest() override {
    EXPECT_TRUE(group_.submitted(0).empty());
    EXPECT_TRUE(norm_->Check().ok());
  }

  std::string ForwardRefusal(const ConstTensor& x, const Tensor& y, const uint8_t* mask = nullptr) {
    const std::string text =
        Refusal(Kind::Forward(&*norm_, x, mask, y, nullptr, norm_.stream().get()));
    EXPECT_THAT(text, HasSubstr("layer norm"));
    return text;
  }
  std::string CreateRefusal(const typename Kind::Tensors& tensors) {
    const std::string text =
        Refusal(Norm::Create("other", Kind::Of(kChannels), 0, tensors, nullptr).status());
    EXPECT_THAT(text, HasSubstr("layer other"));
    return text;
  }
  // The call's tensors on the host.
  Tensor Host() {
    Tensor host = call_->x();
    host.data = host_.data();
    return host;
  }

  std::mt19937_64 random_{Seed(181)};
  InProcessGroup group_{2};
  const std::unique_ptr<DeviceReducer> reducer_ = OnStreams(group_.member(0));
  OnDevice norm_{Kind::Of(kChannels), reducer_.get(), DType::kF32};
  const NormData data_{&random_, kPositions, kChannels};
  const std::unique_ptr<typename OnDevice::Call> call_ = norm_.Prepare(data_);
  std::vector<float> host_ = std::vector<float>(64);
};
TYPED_TEST_SUITE(DeviceInputTest, BothKinds);

TYPED_TEST(DeviceInputTest, MemoryOfTheHostIsNamedPinnedOrNot) {
  const Tensor host = this->Host();
  EXPECT_THAT(this->ForwardRefusal(host, this->call_->y()),
              AllOf(HasSubstr("x is in memory of the host"), HasSubstr("on device 0")));
  EXPECT_THAT(this->ForwardRefusal(this->call_->x(), host),
              HasSubstr("y is in memory of the host"));
  void* pinned = nullptr;
  SYNCNORM_EXPECT_CUDA(cudaHostAlloc(&pinned, 256, cudaHostAllocDefault));
  Tensor in_pinned = host;
  in_pinned.data = pinned;
  EXPECT_THAT(this->ForwardRefusal(in_pinned, this->call_->y()), HasSubstr("(pinned)"));
  SYNCNORM_EXPECT_CUDA(cudaFreeHost(pinned));
  const std::vector<uint8_t> mask(kPositions, 1);
  EXPECT_THAT(this->ForwardRefusal(this->call_->x(), this->call_->y(), mask.data()),
              AllOf(HasSubstr("mask"), HasSubstr("in memory of the host")));
}

TYPED_TEST(DeviceInputTest, ABackwardsTensorsAreChecked) {
  this->norm_->set_training(false);  // no round
  ASSERT_TRUE(this->norm_.Forward(this->call_.get()).ok());
  this->norm_->set_training(true);
  const Tensor host = this->Host(), dx = this->call_->dx();
  const auto& context = this->call_->context;
  const cudaStream_t stream = this->norm_.stream().get();
  auto& norm = *this->norm_;
  EXPECT_THAT(Refusal(norm.Backward(context, host, &dx, nullptr, stream)),
              HasSubstr("dy is in memory of the host"));
  EXPECT_THAT(Refusal(norm.Backward(context, this->call_->dy(), &host, nullptr, stream)),
              HasSubstr("dx is in memory of the host"));
  typename TypeParam::Norm::Gradients gradients{{this->host_.data(), DType::kF32}, {}};
  EXPECT_THAT(Refusal(norm.Backward(context, this->call_->dy(), &dx, &gradients, stream)),
              HasSubstr("the weight's gradient is in memory of the host"));
  gradients = {{}, {this->call_->dx().data, DType{9}}};
  EXPECT_THAT(Refusal(norm.Backward(context, this->call_->dy(), &dx, &gradients, stream)),
              HasSubstr("the bias's gradient has dtype 9"));
  EXPECT_THAT(Refusal(norm.Backward({}, this->call_->dy(), &dx, nullptr, stream)),
              HasSubstr("layer norm"));
}

TYPED_TEST(DeviceInputTest, ALayerOnTheHostRefusesMemoryOfADevice) {
  NormOnHost<TypeParam> host(TypeParam::Of(kChannels), nullptr, DType::kF32);
  const Tensor good = this->Host(), bad = this->call_->x();
  const auto forward = [&](const Tensor& x, const Tensor& y) {
    return Refusal(host->Forward(x, nullptr, y, nullptr));
  };
  EXPECT_THAT(forward(bad, good),
              AllOf(HasSubstr("layer norm"), HasSubstr("in memory of device 0")));
  EXPECT_THAT(forward(good, bad), HasSubstr("in memory of device 0"));
}

TYPED_TEST(DeviceInputTest, ShapesStridesAndAlignmentAreChecked) {
  const Tensor good = this->call_->x(), y = this->call_->y();
  Tensor bad = good;
  bad.data = static_cast<char*>(good.data) + 2;
  EXPECT_THAT(this->ForwardRefusal(bad, y), HasSubstr("not aligned to 4 bytes"));
  bad = good;
  bad.strides = {7, 2};
  EXPECT_THAT(this->ForwardRefusal(bad, y), HasSubstr("contiguous"));
  bad = good;
  bad.strides.pop_back();
  EXPECT_THAT(this->ForwardRefusal(bad, y), HasSubstr("strides"));
  bad = good;
  bad.shape = {kPositions, kChannels + 1};
  EXPECT_THAT(this->ForwardRefusal(bad, y), HasSubstr("4 channels"));
  bad = good;
  bad.shape = {-1, kChannels};
  EXPECT_THAT(this->ForwardRefusal(bad, y), HasSubstr("negative"));
  bad = good;
  bad.data = nullptr;
  EXPECT_THAT(this->ForwardRefusal(bad, y), HasSubstr("null"));
  EXPECT_THAT(this->ForwardRefusal(good, bad), HasSubstr("null"));
  bad = good;
  bad.dtype = DType{9};
  EXPECT_THAT(this->ForwardRefusal(bad, y), HasSubstr("dtype 9"));
  bad = y;
  bad.dtype = DType::kF16;
  EXPECT_THAT(this->ForwardRefusal(good, bad), HasSubstr("dtype and shape must be equal"));
}

// Of 0 elements: it need not even be somewhere.
TYPED_TEST(DeviceInputTest, AnEmptyTensorIsFineWhereverItIs) {
  this->norm_->set_training(false);
  const Tensor empty = Contiguous(static_cast<void*>(nullptr), DType::kF32, {0, kChannels});
  EXPECT_TRUE(
      TypeParam::Forward(&*this->norm_, empty, nullptr, empty, nullptr, this->norm_.stream().get())
          .ok());
}

TYPED_TEST(DeviceInputTest, ALayersTensorsAreNamed) {
  const auto good = this->norm_.tensors();
  auto bad = good;
  bad.weight = {};
  EXPECT_THAT(this->CreateRefusal(bad), HasSubstr("weight is null"));
  bad = good;
  bad.bias.data = this->host_.data();
  EXPECT_THAT(this->CreateRefusal(bad), HasSubstr("bias is in memory of the host"));
  bad = good;
  bad.bias.data = static_cast<char*>(good.bias.data) + 4;
  EXPECT_THAT(this->CreateRefusal(bad), HasSubstr("bias is not aligned to 8 bytes"));
  for (DType half : {DType::kF16, DType::kBF16, DType{9}}) {
    bad = good;
    if constexpr (std::is_same_v<TypeParam, BatchNormKind>) {
      bad.running_mean.dtype = half;
    } else {
      bad.running_phi.dtype = half;
    }
    EXPECT_THAT(this->CreateRefusal(bad),
                AllOf(HasSubstr(TypeParam::kStatistics[0]), HasSubstr("it must be f32 or f64")));
  }
  EXPECT_THAT(Refusal(this->norm_->set_tensors({})), HasSubstr("layer norm"));
}

TYPED_TEST(DeviceInputTest, ALayersDeviceAndOptionsAreChecked) {
  const auto create = [&](int device, const typename TypeParam::Options& options) {
    return Refusal(
        TypeParam::Norm::Create("other", options, device, this->norm_.tensors(), nullptr).status());
  };
  auto options = TypeParam::Of(kChannels);
  EXPECT_THAT(create(-1, options), HasSubstr("device is -1"));
  EXPECT_THAT(create(64, options), AllOf(HasSubstr("layer other"), HasSubstr("device is 64")));
  options.kept_forwards = 33;
  EXPECT_THAT(create(0, options), AllOf(HasSubstr("kept_forwards is 33"), HasSubstr("at most 32")));
  options = TypeParam::Of(0);
  EXPECT_THAT(create(0, options), HasSubstr("channels is 0"));
  EXPECT_EQ(TypeParam::Norm::Create("norm", TypeParam::Of(kChannels), 0, this->norm_.tensors(),
                                    this->reducer_.get())
                .status()
                .code(),
            absl::StatusCode::kAlreadyExists);
}

TEST(DeviceReducerInputTest, AGroupIsNeeded) {
  EXPECT_EQ(DeviceReducer::Create(nullptr).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(DeviceBatchNormInputTest, WithoutAMomentumTheNumberOfBatchesIsNeeded) {
  NormOnDevice<BatchNormKind> norm({.channels = kChannels}, nullptr);
  auto tensors = norm.tensors();
  tensors.num_batches_tracked = nullptr;
  EXPECT_TRUE(DeviceBatchNorm::Create("other", {.channels = kChannels}, 0, tensors, nullptr).ok());
  EXPECT_THAT(
      Refusal(DeviceBatchNorm::Create("other", {.channels = kChannels, .momentum = std::nullopt}, 0,
                                      tensors, nullptr)
                  .status()),
      HasSubstr("num_batches_tracked is null"));
}

TEST(DevicePowerNormInputTest, TheGradScaleIsChecked) {
  std::mt19937_64 random(Seed(182));
  NormOnDevice<PowerNormKind> norm(PowerNormKind::Of(kChannels), nullptr);
  const auto call = norm.Prepare(NormData(&random, kPositions, kChannels));
  ASSERT_TRUE(norm.Forward(call.get()).ok());
  for (double scale : {0.0, -1.0, std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(Refusal(norm->Backward(call->context, call->dy(), nullptr, nullptr,
                                       norm.stream().get(), scale)),
                AllOf(HasSubstr("layer norm"), HasSubstr("grad_scale")));
  }
}

}  // namespace
}  // namespace syncnorm::testing
