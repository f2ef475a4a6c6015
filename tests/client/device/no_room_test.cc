// A device without room: a status, no crash, and all works again once there is room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A simulated device is made small, so that it is filled quickly.  Before its first use.
const int kSmall = setenv("CUDASIM_MEM", "64M", /*overwrite=*/0);

// Everything that the device still has, down to blocks of 1 KiB.
class AllOfIt {
 public:
  AllOfIt() {
    for (size_t bytes = size_t{1} << 36; bytes >= 1024; bytes /= 2) {
      void* data = nullptr;
      while (cudaMalloc(&data, bytes) == cudaSuccess) taken_.push_back(data);
    }
    cudaGetLastError();
  }
  ~AllOfIt() {
    for (void* data : taken_) cudaFree(data);
  }

 private:
  std::vector<void*> taken_;
};

template <typename Kind>
class DeviceNoRoomTest : public ::testing::Test {};
TYPED_TEST_SUITE(DeviceNoRoomTest, BothKinds);

TYPED_TEST(DeviceNoRoomTest, IsToldWithTheLayerAndWorksAgainAfterwards) {
  constexpr int64_t kWide = 4096;  // blocks of more than 64 KiB
  std::mt19937_64 random(Seed(221));
  const NormData data(&random, 4, kWide);
  NormOnDevice<TypeParam> norm(TypeParam::Of(kWide), nullptr), want(TypeParam::Of(kWide), nullptr);
  const auto call = norm.Prepare(data);
  const NormState before = norm.State();
  {
    const AllOfIt all;
    const absl::Status forward = norm.Forward(call.get());
    EXPECT_EQ(forward.code(), absl::StatusCode::kResourceExhausted) << forward;
    EXPECT_THAT(std::string(forward.message()),
                AllOf(HasSubstr("layer norm"), HasSubstr("bytes of device memory"),
                      HasSubstr("cudaErrorMemoryAllocation")));
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "it is told once";
    norm.stream().Synchronize();
  }
  EXPECT_EQ(norm.State(), before);
  ASSERT_TRUE(norm.Forward(call.get()).ok());
  norm.stream().Synchronize();
  {
    // A backward that lacks room does not spoil its context.
    const AllOfIt all;
    EXPECT_EQ(norm.Backward(call.get()).code(), absl::StatusCode::kResourceExhausted);
  }
  ASSERT_TRUE(norm.Backward(call.get()).ok());
  EXPECT_EQ(call->Load(), want.Step(data));
}

}  // namespace
}  // namespace syncnorm::testing
