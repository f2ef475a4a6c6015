// Real layers over real connections: a worker that comes late, workers whose data end early, and
// forwards that are recomputed.
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>
#include <syncnorm/power_norm.h>
#include <syncnorm/recompute.h>

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/server_on.h"
#include "tests/client/workers.h"
#include "tests/support/compare.h"
#include "tests/support/host_tensor.h"

namespace syncnorm::testing {
namespace {

constexpr int64_t kChannels = 3, kTokens = 8;

struct BatchNorm {
  using Norm = SyncBatchNorm;
  static constexpr Layout kLayout = Layout::kContiguous;
  static BatchNormOptions Options() { return {.channels = kChannels}; }
};

struct PowerNorm {
  using Norm = SyncPowerNorm;
  static constexpr Layout kLayout = Layout::kTokens;
  // Admitted within its warm-up or after it, as the boundary falls.
  static PowerNormOptions Options() { return {.channels = kChannels, .warmup_iters = 4}; }
};

// One training step with the data of (step, slice); all that it gives.
template <typename Kind>
std::vector<Numbers> Step(typename Kind::Norm* norm, int step, int slice) {
  std::mt19937_64 random(100 * step + slice);
  const std::vector<int64_t> shape = {kTokens, kChannels};
  const HostTensor x(DType::kF64, shape, Kind::kLayout, Normal(&random, kTokens * kChannels, 1, 2));
  const HostTensor dy(DType::kF64, shape, Kind::kLayout, Normal(&random, kTokens * kChannels));
  HostTensor y(DType::kF64, shape, Kind::kLayout), dx = y;
  typename Kind::Norm::Context context;
  absl::Status status = norm->Forward(x.tensor(), nullptr, y.tensor(), &context);
  EXPECT_TRUE(status.ok()) << status;
  const Tensor dx_tensor = dx.tensor();
  typename Kind::Norm::Gradients gradients;
  status = norm->Backward(context, dy.tensor(), &dx_tensor, &gradients);
  EXPECT_TRUE(status.ok()) << status;
  return {y.Load(), dx.Load(), gradients.weight, gradients.bias};
}

template <typename Kind>
class LateWorkerTest : public ::testing::Test {};
using Kinds = ::testing::Types<BatchNorm, PowerNorm>;
TYPED_TEST_SUITE(LateWorkerTest, Kinds);

// Rank 2 goes and comes back; then it has the data that rank 0 has, and must give what it gives.
TYPED_TEST(LateWorkerTest, ContinuesBitForBitAsTheOthersDo) {
  using Norm = typename TypeParam::Norm;
  constexpr int kBefore = 3, kAfter = 5;
  const auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  auto groups =
      ConnectAll(address, 3, [](GroupOptions* options) { options->on_loss = OnLoss::kShrink; });
  std::vector<std::unique_ptr<Norm>> norms(3);
  InThreads(3, [&](int rank) {
    norms[rank] = *Norm::Create("norm", TypeParam::Options(), groups[rank].get());
    for (int step = 0; step < kBefore; ++step) Step<TypeParam>(norms[rank].get(), step, rank);
  });
  norms[2].reset();
  groups[2].reset();

  std::vector<std::vector<std::vector<Numbers>>> results(3);
  std::vector<std::string> states(3);
  // What all three do from the boundary on.
  const auto go_on = [&](int rank, int from) {
    for (int step = from; step < from + kAfter; ++step) {
      results[rank].push_back(Step<TypeParam>(norms[rank].get(), step, rank % 2));
    }
    const auto state = norms[rank]->Save();
    ASSERT_TRUE(state.ok()) << state.status();
    states[rank] = *state;
  };
  std::thread late([&] {
    GroupOptions options = Options(address, 2, 3);
    options.on_loss = OnLoss::kShrink;
    auto group = Group::Connect(options);
    ASSERT_TRUE(group.ok()) << group.status();
    groups[2] = *std::move(group);
    norms[2] = *Norm::Create("norm", TypeParam::Options(), groups[2].get());
    go_on(2, std::stoi(groups[2]->handed_over()));
  });
  InThreads(2, [&](int rank) {
    for (int step = kBefore;; ++step) {
      const auto boundary = groups[rank]->AtBoundary(
          [step]() -> absl::StatusOr<std::string> { return std::to_string(step); });
      ASSERT_TRUE(boundary.ok()) << boundary.status();
      if (!boundary->admitted.empty()) return go_on(rank, step);
      Step<TypeParam>(norms[rank].get(), step, rank);
    }
  });
  late.join();
  ASSERT_EQ(results[2].size(), size_t{kAfter});
  EXPECT_EQ(results[2], results[0]);
  EXPECT_NE(results[2], results[1]);
  EXPECT_EQ(states[2], states[0]);
  EXPECT_EQ(states[1], states[0]) << "running statistics are the same on all members";
  norms.clear();  // before their groups
}

TYPED_TEST(LateWorkerTest, AForwardThatIsRecomputedGivesTheSameBytesAndSendsNothing) {
  using Norm = typename TypeParam::Norm;
  const auto server = StartServer("127.0.0.1:0");
  const auto groups = ConnectAll(server->address(), 2);
  std::vector<std::string> states(2);
  for (const bool checkpoint : {false, true}) {
    const uint64_t before = server->snapshot().rounds.contributions;
    InThreads(2, [&](int rank) {
      auto norm = *Norm::Create("norm", TypeParam::Options(), groups[rank].get());
      const std::vector<int64_t> shape = {kTokens, kChannels};
      for (int step = 0; step < 6; ++step) {
        std::mt19937_64 random(10 * step + rank);
        const HostTensor x(DType::kF64, shape, TypeParam::kLayout,
                           Normal(&random, kTokens * kChannels, 1, 2));
        HostTensor y(DType::kF64, shape, TypeParam::kLayout), again = y, dx = y;
        typename Norm::Context context;
        ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
        if (checkpoint) {
          const RecomputeScope scope;
          const absl::Status status = norm->Forward(x.tensor(), nullptr, again.tensor(), &context);
          ASSERT_TRUE(status.ok()) << status;
          EXPECT_EQ(again.bytes(), y.bytes());
        }
        const Tensor dx_tensor = dx.tensor();
        ASSERT_TRUE(norm->Backward(context, x.tensor(), &dx_tensor, nullptr).ok());
      }
      const std::string state = *norm->Save();
      if (checkpoint) {
        EXPECT_EQ(state, states[rank]) << "running statistics move once";
      }
      states[rank] = state;
    });
    EXPECT_EQ(server->snapshot().rounds.contributions - before, 2u * 6 * 2);
  }
}

template <typename Kind>
class UnevenDataTest : public ::testing::Test {};
TYPED_TEST_SUITE(UnevenDataTest, Kinds);

// Twice over: rank 0 has no data at first, and makes its layer after it has finished.
TYPED_TEST(UnevenDataTest, AfterFinishAllGoOnFromTheStateOfTheOneThatWentOnLongest) {
  using Norm = typename TypeParam::Norm;
  constexpr int kBatches[2][3] = {{0, 5, 2}, {3, 1, 4}};
  constexpr int kLongest[2] = {1, 2};
  const auto server = StartServer("127.0.0.1:0");
  const auto groups = ConnectAll(server->address(), 3,
                                 [](GroupOptions* options) { options->on_loss = OnLoss::kFinish; });
  std::vector<std::string> before(3), after(3);
  std::vector<std::vector<Numbers>> results(3);
  std::vector<std::unique_ptr<Norm>> norms(3);
  const auto make = [&](int rank) {
    norms[rank] = *Norm::Create("norm", TypeParam::Options(), groups[rank].get());
  };
  const auto state = [&](int rank) {
    const auto saved = norms[rank]->Save();
    EXPECT_TRUE(saved.ok()) << saved.status();
    return saved.ok() ? *saved : "";
  };
  for (int round = 0; round < 2; ++round) {
    InThreads(3, [&](int rank) {
      const int batches = kBatches[round][rank];
      if (batches > 0 && norms[rank] == nullptr) make(rank);
      for (int step = 0; step < batches; ++step) Step<TypeParam>(norms[rank].get(), step, rank);
      if (batches > 0) before[rank] = state(rank);
      // Only saying so waits for nobody, whoever is the last one.
      EXPECT_TRUE(absl::IsDeadlineExceeded(groups[rank]->Finish(absl::ZeroDuration())));
      const absl::Status finished = groups[rank]->Finish(absl::Seconds(20));
      ASSERT_TRUE(finished.ok()) << finished;
      if (norms[rank] == nullptr) make(rank);
      after[rank] = state(rank);
    });
    for (const std::string& one : after) EXPECT_EQ(one, before[kLongest[round]]);
    // The next round has all of them, under one step; equal data give equal results.
    InThreads(3, [&](int rank) { results[rank] = Step<TypeParam>(norms[rank].get(), 9, 0); });
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
  }
}

}  // namespace
}  // namespace syncnorm::testing
