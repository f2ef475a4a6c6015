// Several streams, layers and devices in one process: rounds keep the order of the calls, and no
// wait holds up what it waits for.
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

using ::testing::ElementsAre;

constexpr int64_t kChannels = 5, kPositions = 6;

struct Event {
  Event() { SYNCNORM_EXPECT_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming)); }
  ~Event() { cudaEventDestroy(event); }
  // What is enqueued on `after` from now on runs after what is on `before` now.
  void Order(cudaStream_t before, cudaStream_t after) {
    SYNCNORM_EXPECT_CUDA(cudaEventRecord(event, before));
    SYNCNORM_EXPECT_CUDA(cudaStreamWaitEvent(after, event, 0));
  }
  cudaEvent_t event = nullptr;
};

template <typename Kind>
class DeviceStreamsTest : public ::testing::Test {};
TYPED_TEST_SUITE(DeviceStreamsTest, BothKinds);

TYPED_TEST(DeviceStreamsTest, ABackwardMayBeOnAnotherStreamThanItsForward) {
  std::mt19937_64 random(Seed(131));
  std::vector<std::vector<NormData>> data(2);
  for (auto& steps : data) {
    for (int s = 0; s < 5; ++s) steps.emplace_back(&random, kPositions, kChannels, s % 2 == 0);
  }
  std::vector<std::vector<NormResult>> want(2), got(2);
  std::vector<NormState> want_state(2), got_state(2);
  InProcessGroup one(2), two(2);
  one.Run([&](int rank, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
    for (const NormData& step : data[rank]) want[rank].push_back(norm.Step(step));
    want_state[rank] = norm.Drained();
  });
  two.Run([&](int rank, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
    const Stream other;
    Event forth, back;
    std::vector<std::unique_ptr<typename NormOnDevice<TypeParam>::Call>> calls;
    for (const NormData& step : data[rank]) calls.push_back(norm.Prepare(step));
    for (const auto& call : calls) {
      ASSERT_TRUE(norm.Forward(call.get()).ok());
      forth.Order(norm.stream().get(), other.get());
      ASSERT_TRUE(norm.Backward(call.get(), other.get()).ok());
      back.Order(other.get(), norm.stream().get());
    }
    for (const auto& call : calls) got[rank].push_back(call->Load());
    got_state[rank] = norm.Drained();
    EXPECT_TRUE(norm->Check().ok());
  });
  EXPECT_EQ(got, want);
  EXPECT_EQ(got_state, want_state);
}

// Each layer on a stream of its own, nothing orders them but the library: forwards of all, then
// backwards of all, several times; both ways to wait.
TYPED_TEST(DeviceStreamsTest, LayersOnStreamsOfTheirOwnKeepTheOrderOfTheCalls) {
  constexpr int kLayers = 5, kSteps = 4;
  std::mt19937_64 random(Seed(132));
  std::vector<std::vector<NormData>> data(2);
  for (auto& layers : data) {
    for (int l = 0; l < kLayers; ++l) layers.emplace_back(&random, kPositions + l, kChannels);
  }
  std::vector<std::vector<NormResult>> want(2, std::vector<NormResult>(kLayers));
  for (const StreamWaiting waiting : {StreamWaiting::kStreamMemory, StreamWaiting::kHostFunction}) {
    std::vector<std::vector<NormResult>> got(2, std::vector<NormResult>(kLayers));
    InProcessGroup group(2);
    group.Run([&](int rank, Reducer* member) {
      const auto reducer = OnStreams(member, {.waiting = waiting});
      EXPECT_EQ(reducer->waiting(), waiting);
      std::vector<std::unique_ptr<NormOnDevice<TypeParam>>> layers;
      std::vector<std::unique_ptr<typename NormOnDevice<TypeParam>::Call>> calls;
      for (int l = 0; l < kLayers; ++l) {
        layers.push_back(std::make_unique<NormOnDevice<TypeParam>>(
            TypeParam::Of(kChannels), reducer.get(), DType::kF64, std::to_string(l)));
        calls.push_back(layers[l]->Prepare(data[rank][l]));
      }
      for (int s = 0; s < kSteps; ++s) {
        for (int l = 0; l < kLayers; ++l) ASSERT_TRUE(layers[l]->Forward(calls[l].get()).ok());
        for (int l = kLayers - 1; l >= 0; --l) {
          ASSERT_TRUE(layers[l]->Backward(calls[l].get()).ok());
        }
      }
      for (int l = 0; l < kLayers; ++l) {
        got[rank][l] = calls[l]->Load();
        layers[l]->Drained();
      }
      EXPECT_TRUE(reducer->Check().ok());
    });
    if (waiting == StreamWaiting::kStreamMemory) want = got;
    EXPECT_EQ(got, want);
    EXPECT_EQ(group.completed(), 2u * kLayers * kSteps);
    EXPECT_EQ(group.submitted(0), group.submitted(1));
  }
}

// A layer on the CPU over the same reducer.
TYPED_TEST(DeviceStreamsTest, LayersOnTheHostAreInTheSameOrder) {
  std::mt19937_64 random(Seed(133));
  const NormData data(&random, kPositions, kChannels);
  InProcessGroup group(2);
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<TypeParam> device(TypeParam::Of(kChannels), reducer.get(), DType::kF64, "device");
    NormOnHost<TypeParam> host(TypeParam::Of(kChannels), reducer.get(), DType::kF64, "host");
    const auto call = device.Prepare(data);
    ASSERT_TRUE(device.Forward(call.get()).ok());
    const NormResult on_host = host.Step(data);
    ASSERT_TRUE(device.Backward(call.get()).ok());
    device.stream().Synchronize();
    ExpectClose("device beside host y", call->Load().y, on_host.y, 1e-12);
    ExpectClose("device beside host dx", call->Load().dx, on_host.dx, 1e-12);
    const NormState want = host.Drained();
    for (const auto& [name, numbers] : device.Drained()) {
      ExpectClose("device beside host " + name, numbers, want.at(name), 1e-12);
    }
  });
  EXPECT_THAT(group.submitted(0), ElementsAre("forward device step 1", "forward host step 1",
                                              "backward host step 1", "backward device step 1"));
}

// Layers of one member on two devices.
TYPED_TEST(DeviceStreamsTest, TwoDevicesOfOneProcessShareOneOrder) {
  int devices = 0;
  SYNCNORM_EXPECT_CUDA(cudaGetDeviceCount(&devices));
  if (devices < 2) GTEST_SKIP() << "needs two devices; there is one";
  std::mt19937_64 random(Seed(134));
  const NormData data[2] = {{&random, kPositions, kChannels}, {&random, kPositions, kChannels}};
  InProcessGroup group(2);
  std::vector<std::vector<NormResult>> results(2);
  group.Run([&](int rank, Reducer* member) {
    const auto reducer = OnStreams(member);
    std::vector<std::unique_ptr<NormOnDevice<TypeParam>>> layers;
    std::vector<std::unique_ptr<typename NormOnDevice<TypeParam>::Call>> calls;
    for (int device : {0, 1}) {
      SYNCNORM_EXPECT_CUDA(cudaSetDevice(device));
      layers.push_back(std::make_unique<NormOnDevice<TypeParam>>(
          TypeParam::Of(kChannels), reducer.get(), DType::kF64, std::to_string(device), device));
      calls.push_back(layers[device]->Prepare(data[rank]));
    }
    SYNCNORM_EXPECT_CUDA(cudaSetDevice(0));
    for (int s = 0; s < 3; ++s) {
      for (int l : {0, 1}) ASSERT_TRUE(layers[l]->Forward(calls[l].get()).ok());
      int now = -1;
      SYNCNORM_EXPECT_CUDA(cudaGetDevice(&now));
      EXPECT_EQ(now, 0) << "the caller's device is as it was";
      for (int l : {1, 0}) ASSERT_TRUE(layers[l]->Backward(calls[l].get()).ok());
    }
    for (int l : {0, 1}) results[rank].push_back(calls[l]->Load());
    EXPECT_EQ(layers[0]->Drained(), layers[1]->Drained());
    EXPECT_TRUE(reducer->Check().ok());
    const absl::Status wrong = layers[0]->Forward(calls[1].get());
    EXPECT_EQ(wrong.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(wrong.message()),
                ::testing::HasSubstr("x is on device 1; this layer is on device 0"));
    SYNCNORM_EXPECT_CUDA(cudaSetDevice(1));
    calls.pop_back();
    layers.pop_back();
    SYNCNORM_EXPECT_CUDA(cudaSetDevice(0));
  });
  for (int rank : {0, 1}) EXPECT_EQ(results[rank][0], results[rank][1]);
}

}  // namespace
}  // namespace syncnorm::testing
