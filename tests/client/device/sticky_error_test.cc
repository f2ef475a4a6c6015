// A kernel of somebody else's faults: from then on every call of CUDA fails in this process.  Each
// layer says so, in its own words and CUDA's; nothing hangs, crashes or passes for a result.
//
// One test, since the device is lost to its process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "kernels/cuda/cuda.h"
#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(StickyErrorTest, IsToldByEveryCallAndNobodyHangs) {
  std::mt19937_64 random(Seed(211));
  const NormData data(&random, 6, 3);
  InProcessGroup group(1), pair(2, std::chrono::milliseconds(500));
  const auto reducer = OnStreams(pair.member(0));
  auto batch = std::make_unique<NormOnDevice<BatchNormKind>>(BatchNormKind::Of(3), reducer.get(),
                                                             DType::kF64, "batch");
  auto power = std::make_unique<NormOnDevice<PowerNormKind>>(PowerNormKind::Of(3), nullptr,
                                                             DType::kF64, "power");
  auto call = batch->Prepare(data);
  auto local = power->Prepare(data);
  ASSERT_TRUE(power->Step(local.get()).ok());
  // This one's round is under way when it happens: the other member never comes.
  ASSERT_TRUE(batch->Forward(call.get()).ok());
  {
    const Stream other;
    // Reads and writes where nothing is.
    kernels::cuda::Launch on{};
    on.stream = other.get();
    on.multiprocessors = 1;
    auto* const nowhere = reinterpret_cast<uint8_t*>(64);
    ASSERT_EQ(kernels::cuda::ValidFromBytes(nowhere, 1, nowhere,
                                            reinterpret_cast<uint64_t*>(nowhere), on),
              cudaSuccess);
    EXPECT_NE(cudaStreamSynchronize(other.get()), cudaSuccess);
  }
  const auto expect_told = [](const absl::Status& status, const char* layer) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(layer), HasSubstr("CUDA says: "),
                                                     HasSubstr("cudaErrorIllegalAddress")));
  };
  expect_told(power->Forward(local.get()), "layer power");
  expect_told(power->Backward(local.get()), "layer power");
  expect_told((*power)->Save().status(), "layer power");
  expect_told(NormOnDevice<PowerNormKind>::Norm::Create("new", PowerNormKind::Of(3), 0,
                                                        power->tensors(), nullptr)
                  .status(),
              "layer new");
  // The round under way fails, by the network's deadline or by CUDA, and its layer says so.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (reducer->counters().results < 1 && std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
  }
  EXPECT_EQ(reducer->counters().results, 1u);
  EXPECT_FALSE((*batch)->Check().ok());
  expect_told(batch->Forward(call.get()), "layer batch");
  // And all goes away in peace.
  call->context = {};
  batch->Destroy();
  local->context = {};
  power->Destroy();
}

}  // namespace
}  // namespace syncnorm::testing
