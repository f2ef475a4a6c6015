// Who may go before whom: contexts outlive their layers, layers end with rounds under way, and a
// fork's child touches nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "tests/client/device/norm_on_device.h"
#include "tests/support/compare.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kChannels = 3, kPositions = 8;

template <typename Kind>
class DeviceLifetimeTest : public ::testing::Test {
 protected:
  std::mt19937_64 random_{Seed(161)};
  const NormData data_{&random_, kPositions, kChannels, true};
};
TYPED_TEST_SUITE(DeviceLifetimeTest, BothKinds);

TYPED_TEST(DeviceLifetimeTest, ContextsOutliveTheirLayerAndItsReducer) {
  const DeviceMemory before = DeviceMemoryInUse();
  for (const bool synchronised : {false, true}) {
    InProcessGroup group(synchronised ? 2 : 1);
    group.Run([&](int, Reducer* member) {
      auto reducer = OnStreams(member);
      NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
      const auto call = norm.Prepare(this->data_);
      ASSERT_TRUE(norm.Step(call.get()).ok());
      ASSERT_TRUE(norm.Drain().ok());
      norm.stream().Synchronize();
      typename TypeParam::Norm::Context context = call->context;
      call->context = {};
      norm.Destroy();
      reducer.reset();
      EXPECT_GT(DeviceMemoryInUse().device_bytes, before.device_bytes);
      // Of no use to another layer.
      NormOnDevice<TypeParam> other(TypeParam::Of(kChannels), nullptr, DType::kF64, "other");
      call->context = context;
      const absl::Status refused = other.Backward(call.get());
      EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(refused.message()), HasSubstr("norm"));
    });
  }
  EXPECT_EQ(DeviceMemoryInUse().device_bytes, before.device_bytes);
  EXPECT_EQ(DeviceMemoryInUse().pinned_bytes, before.pinned_bytes);
}

// The layer's end waits for its rounds: their results go to its memory.
TYPED_TEST(DeviceLifetimeTest, ALayerThatEndsWithRoundsUnderWayWaitsForThem) {
  InProcessGroup group(2);
  Meeting meeting(2);
  group.Hold();
  auto options = TypeParam::Of(kChannels);
  // No stream waits for these rounds, the layer alone does.
  if constexpr (std::is_same_v<TypeParam, PowerNormKind>) {
    options.warmup_iters = 0;
    options.semantics = PowerNormSemantics::kPaper;
  }
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<TypeParam> norm(options, reducer.get());
    const auto call = norm.Prepare(this->data_);
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    ASSERT_TRUE(norm.Backward(call.get()).ok());
    std::atomic<bool> gone{false};
    bool gone_before = false;
    // Time enough for a layer that does not wait to be gone.
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
    std::thread network([&] {
      meeting.Wait();
      while (!gone && std::chrono::steady_clock::now() < end) std::this_thread::yield();
      gone_before = gone;
      meeting.Wait();
      group.Release();
    });
    norm.Destroy();
    gone = true;
    EXPECT_EQ(reducer->counters().results, 2u);
    network.join();
    EXPECT_FALSE(gone_before);
    norm.stream().Synchronize();
    // The name is free again.
    NormOnDevice<TypeParam> next(TypeParam::Of(kChannels), reducer.get());
  });
  EXPECT_EQ(group.completed(), 2u);
}

TYPED_TEST(DeviceLifetimeTest, AReducerThatEndsAfterItsLayersIsQuiet) {
  InProcessGroup group(2);
  group.FailRound(2, absl::AbortedError("nobody asks"));
  group.Run([&](int, Reducer* member) {
    auto reducer = OnStreams(member);
    auto norm = std::make_unique<NormOnDevice<TypeParam>>(TypeParam::Of(kChannels), reducer.get());
    auto call = norm->Prepare(this->data_);
    ASSERT_TRUE(norm->Forward(call.get()).ok());
    ASSERT_TRUE(norm->Backward(call.get()).ok());
    norm->stream().Synchronize();
    call.reset();
    norm.reset();
    reducer.reset();
  });
}

// Runs `body` in a child; whether it returned true there, within 20 s.
bool InChild(const std::function<bool()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(20);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TYPED_TEST(DeviceLifetimeTest, AForkedChildIsRefusedAndEndsHarmlessly) {
  for (const bool synchronised : {false, true}) {
    SCOPED_TRACE(synchronised);
    InProcessGroup group(2);
    Meeting meeting(2);
    group.Run([&](int rank, Reducer* member) {
      auto reducer = synchronised ? OnStreams(member) : nullptr;
      auto norm =
          std::make_unique<NormOnDevice<TypeParam>>(TypeParam::Of(kChannels), reducer.get());
      const auto call = norm->Prepare(this->data_);
      ASSERT_TRUE(norm->Step(call.get()).ok());
      norm->Drained();
      meeting.Wait();
      if (rank == 0) {
        EXPECT_TRUE(InChild([&] {
          for (const absl::Status& refused :
               {norm->Forward(call.get()), norm->Backward(call.get()), (*norm)->Check(),
                (*norm)->Save().status(), (*norm)->Load(""), (*norm)->set_tensors(norm->tensors()),
                TypeParam::Norm::Create("child", TypeParam::Of(kChannels), 0, norm->tensors(),
                                        nullptr)
                    .status()}) {
            if (refused.code() != absl::StatusCode::kFailedPrecondition) return false;
            if (refused.message().find("create it after fork") == std::string::npos) return false;
          }
          if (reducer != nullptr && reducer->Check().ok()) return false;
          call->context = {};
          norm->Destroy();
          reducer.reset();
          return true;
        }));
      }
      meeting.Wait();
      // The parent goes on.
      ASSERT_TRUE(norm->Step(call.get()).ok());
      norm->Drained();
    });
  }
}

}  // namespace
}  // namespace syncnorm::testing
