// Modules inside activation checkpoints: all bits as without, and no further rounds.
#include "tests/client/torch/checkpoint.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/recompute.h>
#include <syncnorm/torch.h>
#include <torch/torch.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/client/torch/workers.h"

namespace syncnorm::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kTime = 5, kBatch = 4, kChannels = 6;

torch::Tensor Random(uint64_t seed) {
  return at::randn({kTime, kBatch, kChannels}, at::make_generator<at::CPUGeneratorImpl>(seed));
}

// Two layers with a norm each, so that gradients pass through a recomputed norm to another one.
struct Net : torch::nn::Module {
  virtual torch::Tensor First(const torch::Tensor& x) = 0;
  virtual torch::Tensor Second(const torch::Tensor& x) = 0;
  virtual void Finish() {}
};
using MakeNet = std::function<std::shared_ptr<Net>(Reducer* group)>;

template <typename Norm>
struct NetOf : Net {
  NetOf(Norm one, Norm two) {
    a = register_module("a", torch::nn::Linear(kChannels, kChannels));
    b = register_module("b", torch::nn::Linear(kChannels, kChannels));
    norm_a = register_module("norm_a", std::move(one));
    norm_b = register_module("norm_b", std::move(two));
    // Parameters are compared, so they start alike: by a generator of their own, because the
    // workers are threads.
    const torch::NoGradGuard no_grad;
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
    for (torch::nn::Linear& linear : {std::ref(a), std::ref(b)}) {
      for (torch::Tensor& parameter : linear->parameters()) parameter.normal_(0, 0.5, generator);
    }
  }
  torch::nn::Linear a{nullptr}, b{nullptr};
  Norm norm_a{nullptr}, norm_b{nullptr};
};

// x's tokens are its samples; the fourth of the batch does not count.
struct BatchNormNet final : NetOf<nn::SyncBatchNorm> {
  BatchNormNet(Reducer* group, const BatchNormOptions& options)
      : NetOf(nn::SyncBatchNorm("a", options, group), nn::SyncBatchNorm("b", options, group)) {}
  static torch::Tensor Normalise(nn::SyncBatchNorm& norm, const torch::Tensor& x) {
    torch::Tensor mask = torch::ones({kTime, kBatch}, torch::kBool);
    mask.narrow(1, 3, 1).fill_(false);
    return norm->forward(x.reshape({-1, kChannels}), mask.reshape({-1})).reshape(x.sizes());
  }
  torch::Tensor First(const torch::Tensor& x) override {
    return torch::relu(Normalise(norm_a, a->forward(x)));
  }
  torch::Tensor Second(const torch::Tensor& x) override { return Normalise(norm_b, b->forward(x)); }
};

struct PowerNormNet final : NetOf<nn::SyncPowerNorm> {
  PowerNormNet(Reducer* group, const PowerNormOptions& options)
      : NetOf(nn::SyncPowerNorm("a", options, group), nn::SyncPowerNorm("b", options, group)) {}
  static torch::Tensor Normalise(nn::SyncPowerNorm& norm, const torch::Tensor& x) {
    torch::Tensor padding = torch::zeros({kBatch, kTime}, torch::kBool);
    padding.narrow(0, 2, 2).narrow(1, 3, 2).fill_(true);
    return norm->forward(x, padding);
  }
  torch::Tensor First(const torch::Tensor& x) override {
    return torch::relu(Normalise(norm_a, a->forward(x)));
  }
  torch::Tensor Second(const torch::Tensor& x) override { return Normalise(norm_b, b->forward(x)); }
  void Finish() override {
    norm_a->Drain();
    norm_b->Drain();
  }
};

// In which order the backwards of a step's micro-batches come.
enum class Order { kFirstIn, kLastIn, kOneGraph };

// Four steps of `micro` micro-batches; everything that a worker has computed.
std::vector<torch::Tensor> Train(Net& net, int rank, int micro, Order order, bool checkpointed) {
  std::vector<torch::Tensor> trace;
  const auto through = [&](const Segment& segment, const torch::Tensor& x) {
    return checkpointed ? Checkpoint(segment, x) : segment(x);
  };
  for (int step = 0; step < 4; ++step) {
    net.zero_grad();
    std::vector<torch::Tensor> x, losses;
    for (int m = 0; m < micro; ++m) {
      const uint64_t seed = 1000 * step + 10 * m + rank;
      x.push_back(Random(seed).requires_grad_());
      const torch::Tensor h = through([&](const auto& in) { return net.First(in); }, x[m]);
      const torch::Tensor y = through([&](const auto& in) { return net.Second(in); }, h);
      trace.push_back(y.detach().clone());
      losses.push_back((y * Random(seed + 500'000)).sum());
    }
    if (order == Order::kOneGraph) {
      torch::stack(losses).sum().backward();
    } else {
      if (order == Order::kLastIn) std::reverse(losses.begin(), losses.end());
      for (const torch::Tensor& loss : losses) loss.backward();
    }
    for (const torch::Tensor& input : x) trace.push_back(input.grad().clone());
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& parameter : net.parameters()) {
      trace.push_back(parameter.grad().clone());
      parameter.sub_(parameter.grad(), 0.01);
    }
  }
  net.Finish();
  for (const torch::Tensor& buffer : net.buffers()) trace.push_back(buffer.clone());
  return trace;
}

void ExpectSameBits(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].equal(b[i])) << "tensor " << i;
}

void ExpectCheckpointsChangeNothing(const MakeNet& make) {
  for (const Order order : {Order::kFirstIn, Order::kLastIn, Order::kOneGraph}) {
    for (const int micro : {1, 3}) {
      SCOPED_TRACE(::testing::Message() << micro << " in order " << static_cast<int>(order));
      InProcessGroup plain(2), checkpointed(2);
      std::vector<std::vector<torch::Tensor>> expected(2), traces(2);
      RunWorkers(plain, [&](int rank, Reducer* group) {
        expected[rank] = Train(*make(group), rank, micro, order, false);
      });
      RunWorkers(checkpointed, [&](int rank, Reducer* group) {
        traces[rank] = Train(*make(group), rank, micro, order, true);
      });
      for (int rank = 0; rank < 2; ++rank) {
        ExpectSameBits(traces[rank], expected[rank]);
        EXPECT_EQ(checkpointed.submitted(rank), plain.submitted(rank));
      }
      EXPECT_EQ(plain.submitted(0).size(), 4u * micro * 4);  // two norms, there and back
      ExpectSameBits(Train(*make(nullptr), 0, micro, order, true),
                     Train(*make(nullptr), 0, micro, order, false));
    }
  }
}

TEST(CheckpointTest, BatchNormsGiveTheSameBitsInTheSameRounds) {
  BatchNormOptions options{.channels = kChannels};
  for (const std::optional<double> momentum :
       {std::optional<double>(0.1), std::optional<double>()}) {
    options.momentum = momentum;
    ExpectCheckpointsChangeNothing(
        [&](Reducer* group) { return std::make_shared<BatchNormNet>(group, options); });
  }
}

// Four steps of one micro-batch end warm-up after the second; of three, in the first one.
TEST(CheckpointTest, PowerNormsGiveTheSameBitsInTheSameRounds) {
  PowerNormOptions options{.channels = kChannels, .warmup_iters = 2, .groups = 2};
  for (const auto semantics : {PowerNormSemantics::kReference, PowerNormSemantics::kPaper}) {
    for (const auto schedule : {PowerNormSchedule::kDeferred, PowerNormSchedule::kBlocking}) {
      options.semantics = semantics;
      options.schedule = schedule;
      ExpectCheckpointsChangeNothing(
          [&](Reducer* group) { return std::make_shared<PowerNormNet>(group, options); });
    }
  }
}

TEST(CheckpointTest, ACheckpointInsideACheckpointIsOneForward) {
  nn::SyncBatchNorm plain("plain", BatchNormOptions{.channels = kChannels}, nullptr);
  nn::SyncBatchNorm nested("nested", BatchNormOptions{.channels = kChannels}, nullptr);
  const torch::Tensor x = Random(3).reshape({-1, kChannels}).requires_grad_();
  const torch::Tensor again = x.detach().clone().requires_grad_();
  plain->forward(x * 2).square().sum().backward();
  Checkpoint(
      [&](const torch::Tensor& in) {
        return Checkpoint([&](const torch::Tensor& inner) { return nested->forward(inner); },
                          in * 2)
            .square();
      },
      again)
      .sum()
      .backward();
  EXPECT_TRUE(again.grad().equal(x.grad()));
  ExpectSameBits(nested->buffers(), plain->buffers());
  EXPECT_EQ(nested->num_batches_tracked.item<int64_t>(), 1);
}

TEST(CheckpointTest, ASegmentWhoseInputsChangeIsRefusedByName) {
  nn::SyncBatchNorm norm("conv1.bn", BatchNormOptions{.channels = kChannels}, nullptr);
  const torch::Tensor x = Random(3).reshape({-1, kChannels}).requires_grad_();
  const torch::Tensor y = Checkpoint(
      [&](const torch::Tensor& in) { return norm->forward(torch::dropout(in, 0.5, true)); }, x);
  try {
    y.sum().backward();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const nn::StatusError& error) {
    EXPECT_EQ(error.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(error.status().message()), HasSubstr("layer conv1.bn"));
    EXPECT_THAT(std::string(error.status().message()), HasSubstr("dropout"));
  }
  EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 1);
}

TEST(CheckpointTest, OutsideABackwardAScopeSaysIt) {
  nn::SyncBatchNorm norm("bn", BatchNormOptions{.channels = kChannels}, nullptr);
  const torch::Tensor x = Random(3).reshape({-1, kChannels});
  const torch::Tensor first = norm->forward(x);
  {
    const RecomputeScope scope;
    EXPECT_TRUE(norm->forward(x).equal(first));
  }
  EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 1);
  norm->forward(x);
  EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 2);
}

TEST(CheckpointTest, AfterABackwardAForwardIsAnOrdinaryOne) {
  nn::SyncBatchNorm norm("bn", BatchNormOptions{.channels = kChannels}, nullptr);
  const torch::Tensor x = Random(3).reshape({-1, kChannels}).requires_grad_();
  for (int i = 1; i <= 3; ++i) {
    Checkpoint([&](const torch::Tensor& in) { return norm->forward(in); }, x).sum().backward();
    EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), i);
  }
}

}  // namespace
}  // namespace syncnorm::testing
