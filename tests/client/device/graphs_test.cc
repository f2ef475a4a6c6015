// Layers captured into CUDA graphs: each launch is a call, and the memory that a graph knows is
// nobody else's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/recompute.h>

#include <functional>
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

constexpr int64_t kChannels = 5, kPositions = 12;

class Graph {
 public:
  // Captures what `enqueue` does on the stream.
  Graph(const Stream& stream, const std::function<void()>& enqueue) : stream_(stream.get()) {
    SYNCNORM_EXPECT_CUDA(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal));
    enqueue();
    SYNCNORM_EXPECT_CUDA(cudaStreamEndCapture(stream_, &graph_));
    SYNCNORM_EXPECT_CUDA(cudaGraphInstantiate(&executable_, graph_, 0));
  }
  ~Graph() {
    cudaGraphExecDestroy(executable_);
    cudaGraphDestroy(graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void Launch() { SYNCNORM_EXPECT_CUDA(cudaGraphLaunch(executable_, stream_)); }

 private:
  const cudaStream_t stream_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

template <typename Kind>
class DeviceGraphsTest : public ::testing::Test {
 protected:
  using OnDevice = NormOnDevice<Kind>;
  NormData Random(bool masked = false) { return {&random_, kPositions, kChannels, masked}; }
  // With the mask of `like`: a graph's is where it was captured.
  NormData Like(const NormData& like) {
    NormData data = Random();
    data.mask = like.mask;
    return data;
  }
  static void Enqueue(OnDevice* norm, typename OnDevice::Call* call) {
    absl::Status status = norm->Forward(call);
    EXPECT_TRUE(status.ok()) << status;
    status = norm->Backward(call);
    EXPECT_TRUE(status.ok()) << status;
  }

  std::mt19937_64 random_{Seed(171)};
};
TYPED_TEST_SUITE(DeviceGraphsTest, BothKinds);

TYPED_TEST(DeviceGraphsTest, EachLaunchEqualsAnEagerStepInTrainingAndInEval) {
  for (const bool training : {true, false}) {
    for (const bool masked : {false, true}) {
      for (const bool seen_before : {false, true}) {
        SCOPED_TRACE(::testing::Message() << training << masked << seen_before);
        typename NormOnDevice<TypeParam>::Options options = TypeParam::Of(kChannels);
        NormOnDevice<TypeParam> captured(options, nullptr), eager(options, nullptr);
        const NormData shape = this->Random(masked);
        for (auto* norm : {&captured, &eager}) {
          if (seen_before) norm->Step(shape);
          (*norm)->set_training(training);
        }
        const auto call = captured.Prepare(shape);
        Graph graph(captured.stream(), [&] { this->Enqueue(&captured, call.get()); });
        EXPECT_EQ(captured.State(), eager.State()) << "a capture runs nothing";
        call->context = {};
        for (int s = 0; s < 5; ++s) {
          const NormData data = this->Like(shape);
          call->Store(data);
          graph.Launch();
          EXPECT_EQ(call->Load(), eager.Step(data)) << "launch " << s;
          EXPECT_EQ(captured.State(), eager.State());
        }
        EXPECT_TRUE(captured->Check().ok());
      }
    }
  }
}

TYPED_TEST(DeviceGraphsTest, EagerCallsInBetweenNeitherDisturbAGraphNorAreDisturbed) {
  NormOnDevice<TypeParam> mixed(TypeParam::Of(kChannels), nullptr);
  NormOnDevice<TypeParam> eager(TypeParam::Of(kChannels), nullptr);
  const NormData shape = this->Random(true);
  mixed.Step(shape);  // leaves blocks behind that a capture might take
  eager.Step(shape);
  const auto call = mixed.Prepare(shape);
  Graph graph(mixed.stream(), [&] { this->Enqueue(&mixed, call.get()); });
  call->context = {};
  for (int s = 0; s < 12; ++s) {  // more than are kept
    const NormData one = this->Like(shape), other = this->Like(shape);
    // An eager forward, a launch, and then its backward.
    const auto around = mixed.Prepare(one), want = eager.Prepare(one);
    ASSERT_TRUE(mixed.Forward(around.get()).ok());
    ASSERT_TRUE(eager.Forward(want.get()).ok());
    call->Store(other);
    graph.Launch();
    EXPECT_EQ(call->Load(), eager.Step(other));
    ASSERT_TRUE(mixed.Backward(around.get()).ok());
    ASSERT_TRUE(eager.Backward(want.get()).ok());
    EXPECT_EQ(around->Load(), want->Load());
    EXPECT_EQ(mixed.State(), eager.State());
  }
}

// A mistake of the caller's, which must not cost the device.
TYPED_TEST(DeviceGraphsTest, ABackwardOfAForwardThatWasCapturedAndNotLaunchedHarmsNobody) {
  NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), nullptr);
  const NormData data = this->Random();
  const auto call = norm.Prepare(data);
  Graph graph(norm.stream(), [&] { ASSERT_TRUE(norm.Forward(call.get()).ok()); });
  ASSERT_TRUE(norm.Backward(call.get()).ok());
  norm.stream().Synchronize();
  graph.Launch();
  ASSERT_TRUE(norm.Backward(call.get()).ok());
  EXPECT_EQ(call->Load().dx,
            NormOnDevice<TypeParam>(TypeParam::Of(kChannels), nullptr).Step(data).dx);
}

// The context is an eager forward's: its block is the graph's from then on.
TYPED_TEST(DeviceGraphsTest, ABackwardMayBeCapturedAlone) {
  NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), nullptr);
  norm->set_training(false);
  const NormData data = this->Random();
  const NormResult want = norm.Step(data);
  const auto call = norm.Prepare(data);
  ASSERT_TRUE(norm.Forward(call.get()).ok());
  norm.stream().Synchronize();
  Graph graph(norm.stream(), [&] { ASSERT_TRUE(norm.Backward(call.get()).ok()); });
  call->context = {};
  norm.weight().Store(Numbers(kChannels, 77));  // no other forward may write what this one left
  for (int s = 0; s < 3; ++s) norm.Step(this->Random());
  norm.weight().Store(NormOnDevice<TypeParam>::Spread(kChannels, 1));
  norm.first().Store(Numbers(kChannels, 3));
  norm.Step(this->Random());
  graph.Launch();
  EXPECT_EQ(call->Load().dx, want.dx);
  EXPECT_EQ(call->Load().weight, want.weight);
  EXPECT_TRUE(norm->Check().ok());
}

TYPED_TEST(DeviceGraphsTest, ARecomputationMayBeCaptured) {
  NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), nullptr);
  const NormData data = this->Random();
  const auto first = norm.Prepare(data);
  ASSERT_TRUE(norm.Forward(first.get()).ok());
  norm.stream().Synchronize();
  const auto again = norm.Prepare(data);
  Graph graph(norm.stream(), [&] {
    const RecomputeScope scope;
    ASSERT_TRUE(norm.Forward(again.get()).ok());
  });
  const Numbers y = first->LoadY();
  first->context = {};
  again->context = {};
  for (int s = 0; s < 12; ++s) norm.Step(this->Random());  // it is kept no more, but the graph's
  const NormState before = norm.State();
  graph.Launch();
  EXPECT_EQ(again->LoadY(), y);
  EXPECT_EQ(norm.State(), before);
  EXPECT_TRUE(norm->Check().ok());
}

TYPED_TEST(DeviceGraphsTest, ACallThatSynchronisesIsRefusedAndTheCaptureGoesOn) {
  InProcessGroup group(2);
  const auto reducer = OnStreams(group.member(0));
  NormOnDevice<TypeParam> norm(TypeParam::Of(kChannels), reducer.get());
  const NormData data = this->Random();
  const auto call = norm.Prepare(data), eval = norm.Prepare(data);
  Graph graph(norm.stream(), [&] {
    const absl::Status refused = norm.Forward(call.get());
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.message()),
                AllOf(HasSubstr("layer norm"), HasSubstr("CUDA graph"), HasSubstr("eval")));
    norm->set_training(false);
    this->Enqueue(&norm, eval.get());
    norm->set_training(true);
  });
  graph.Launch();
  NormOnDevice<TypeParam> other(TypeParam::Of(kChannels), nullptr);
  other->set_training(false);
  EXPECT_EQ(eval->Load(), other.Step(data));
  EXPECT_TRUE(group.submitted(0).empty());
}

// Its statistic has yet to be applied, by a wait for a round.
TEST(DevicePowerNormGraphsTest, AStatisticUnderWayCannotBeAppliedInAGraph) {
  std::mt19937_64 random(Seed(172));
  const NormData data(&random, kPositions, kChannels);
  InProcessGroup group(2);
  Meeting meeting(2);
  group.Run([&](int, Reducer* member) {
    const auto reducer = OnStreams(member);
    NormOnDevice<PowerNormKind> norm({.channels = kChannels, .warmup_iters = 0}, reducer.get());
    const auto call = norm.Prepare(data);
    ASSERT_TRUE(norm.Forward(call.get()).ok());
    norm.stream().Synchronize();
    meeting.Wait();
    group.Disconnect();  // the next forward is local
    // In one capture at a time, of this thread.
    cudaGraph_t graph = nullptr;
    SYNCNORM_EXPECT_CUDA(
        cudaStreamBeginCapture(norm.stream().get(), cudaStreamCaptureModeThreadLocal));
    EXPECT_EQ(norm.Forward(call.get()).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(norm.Drain().code(), absl::StatusCode::kFailedPrecondition);
    SYNCNORM_EXPECT_CUDA(cudaStreamEndCapture(norm.stream().get(), &graph));
    cudaGraphDestroy(graph);
    EXPECT_EQ(norm.Drained().at("iters"), Numbers{1});
  });
}

}  // namespace
}  // namespace syncnorm::testing
