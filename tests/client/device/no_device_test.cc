// A machine whose devices this process may not see: a status that says so, and layers on the CPU go
// on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>
#include <syncnorm/device_batch_norm.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Before CUDA's first use: the driver's word, and the simulator's.
const int kHidden = setenv("CUDA_VISIBLE_DEVICES", "", /*overwrite=*/1) +
                    setenv("CUDASIM_DEVICE_COUNT", "0", /*overwrite=*/1);

TEST(NoDeviceTest, IsToldByTheReducerAndByALayer) {
  InProcessGroup group(1);
  for (const absl::Status& status :
       {DeviceReducer::Create(group.member(0)).status(),
        DeviceBatchNorm::Create("bn", {.channels = 2}, 0, {}, nullptr).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("looking for devices"), HasSubstr("CUDA says: ")));
  }
  auto host = SyncBatchNorm::Create("bn", {.channels = 1}, group.member(0));
  ASSERT_TRUE(host.ok());
  std::vector<float> x = {1, 3}, y(2);
  const auto tensor = [](std::vector<float>* of) {
    return Contiguous(static_cast<void*>(of->data()), DType::kF32, {2, 1});
  };
  EXPECT_TRUE((*host)->Forward(tensor(&x), nullptr, tensor(&y), nullptr).ok());
}

}  // namespace
}  // namespace syncnorm::testing
