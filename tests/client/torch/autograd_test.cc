// Gradients through LibTorch's autograd: against finite differences, and the rules of
// when a backward has a round and when it refuses.
#include <gtest/gtest.h>
#include <syncnorm/torch.h>
#include <torch/torch.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "tests/client/torch/workers.h"

namespace syncnorm::testing {
namespace {

BatchNormOptions Channels(int64_t channels) {
  BatchNormOptions options;
  options.channels = channels;
  return options;
}

double SumOver(Reducer* group, double value, uint64_t step) {
  Moments moments = Moments::Sums(1, 1, Precision::kF64);
  moments.values[0] = value;
  ReduceKey key;
  key.layer = "loss";
  key.step = step;
  return group->ReduceNow(key, moments)->values[0];
}

// The loss of the group, sum over workers of sum(y * r), differentiated by every element of
// every worker's `tensor`, beside what backward says.
void CheckGradients(const std::vector<torch::Tensor>& inputs, const torch::Tensor& mask,
                    torch::MemoryFormat format) {
  const int world = static_cast<int>(inputs.size());
  RunWorkers(world, [&](int rank, Reducer* group) {
    nn::SyncBatchNorm norm("bn", Channels(inputs[0].size(1)), group);
    norm->to(torch::kDouble);
    {
      const torch::NoGradGuard no_grad;
      norm->weight.copy_(torch::tensor({0.5, -1.5, 2.0}, torch::kDouble));
      norm->bias.copy_(torch::tensor({1.0, 0.0, -1.0}, torch::kDouble));
    }
    const torch::Tensor own_mask = mask.defined() ? mask.select(0, rank) : torch::Tensor();
    const torch::Tensor factor = inputs[rank].sin() + 0.3 * inputs[rank].square();
    torch::Tensor x = inputs[rank].clone(format).requires_grad_();
    (norm->forward(x, own_mask) * factor).sum().backward();

    const torch::NoGradGuard no_grad;
    uint64_t step = 0;
    const auto loss = [&] {
      return SumOver(group, (norm->forward(x, own_mask) * factor).sum().item<double>(), ++step);
    };
    constexpr double kEps = 1e-5;
    for (int owner = 0; owner < world; ++owner) {
      for (int64_t i = 0; i < inputs[owner].numel(); ++i) {
        double moved[2];
        for (const int side : {0, 1}) {
          torch::Tensor element;
          if (owner == rank) {
            element = x.permute({0, 2, 3, 1}).flatten(0, 2).select(0, i / 3).select(0, i % 3);
            element += side == 0 ? kEps : -kEps;
          }
          moved[side] = loss();
          if (owner == rank) element -= side == 0 ? kEps : -kEps;
        }
        if (owner != rank) continue;
        const double expected = (moved[0] - moved[1]) / (2 * kEps);
        const double analytic =
            x.grad().permute({0, 2, 3, 1}).reshape({-1, 3})[i / 3][i % 3].item<double>();
        EXPECT_NEAR(analytic, expected, 1e-6 * std::max(1.0, std::abs(expected)))
            << "rank " << rank << " element " << i;
      }
    }
  });
}

std::vector<torch::Tensor> Inputs() {
  torch::manual_seed(11);
  return {torch::randn({2, 3, 2, 2}, torch::kDouble),
          torch::randn({2, 3, 2, 2}, torch::kDouble) * 2 + 1};
}

TEST(Autograd, AgreesWithFiniteDifferences) {
  CheckGradients(Inputs(), {}, torch::MemoryFormat::ChannelsLast);
}

TEST(Autograd, AgreesWithFiniteDifferencesUnderAMask) {
  const torch::Tensor mask =
      torch::tensor({1, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 0, 0, 1, 1}, torch::kByte)
          .view({2, 2, 2, 2});
  CheckGradients(Inputs(), mask, torch::MemoryFormat::ChannelsLast);
}

TEST(Autograd, InputsWithoutGradientHaveNoBackwardRoundAndDoNotHang) {
  InProcessGroup group(2);
  RunWorkers(group, [](int, Reducer* member) {
    nn::SyncBatchNorm norm("bn", Channels(3), member);
    norm->forward(torch::randn({4, 3})).square().sum().backward();
    EXPECT_TRUE(norm->weight.grad().defined());
    EXPECT_TRUE(norm->bias.grad().defined());
  });
  EXPECT_EQ(group.submitted(0), std::vector<std::string>{"forward bn step 1"});
}

TEST(Autograd, WithoutGradModeNothingIsKeptAndOnlyTheForwardIsSent) {
  InProcessGroup group(2);
  RunWorkers(group, [](int, Reducer* member) {
    const torch::NoGradGuard no_grad;
    nn::SyncBatchNorm norm("bn", Channels(3), member);
    const torch::Tensor x = torch::randn({4, 3}).requires_grad_();
    EXPECT_FALSE(norm->forward(x).requires_grad());
  });
  EXPECT_EQ(group.submitted(1), std::vector<std::string>{"forward bn step 1"});
}

TEST(Autograd, FrozenParametersGetNoGradient) {
  RunWorkers(2, [](int, Reducer* member) {
    nn::SyncBatchNorm norm("bn", Channels(3), member);
    norm->weight.requires_grad_(false);
    const torch::Tensor x = torch::randn({4, 3}).requires_grad_();
    norm->forward(x).square().sum().backward();
    EXPECT_TRUE(x.grad().defined());
    EXPECT_FALSE(norm->weight.grad().defined());
    EXPECT_TRUE(norm->bias.grad().defined());
  });
}

TEST(Autograd, AModuleUsedTwiceBeforeItsBackwardGivesTheGradientsOfBoth) {
  torch::manual_seed(4);
  const torch::Tensor a = torch::randn({4, 3}, torch::kDouble);
  const torch::Tensor b = torch::randn({4, 3}, torch::kDouble) * 4;
  const auto expected = [](const torch::Tensor& x) {
    const torch::Tensor leaf = torch::cat({x, x * 2}).requires_grad_();
    torch::batch_norm(leaf, {}, {}, {}, {}, true, 0.1, 1e-5, false).sin().sum().backward();
    return leaf.grad();
  };
  const torch::Tensor da = expected(a), db = expected(b);
  RunWorkers(2, [&](int rank, Reducer* member) {
    nn::SyncBatchNorm norm("bn", Channels(3), member);
    norm->to(torch::kDouble);
    const torch::Tensor x = (a * (rank + 1)).requires_grad_();
    const torch::Tensor y = (b * (rank + 1)).requires_grad_();
    (norm->forward(x).sin().sum() + norm->forward(y).sin().sum()).backward();
    ExpectClose(x.grad(), da.narrow(0, 4 * rank, 4), "first", 1e-9, 1e-12);
    ExpectClose(y.grad(), db.narrow(0, 4 * rank, 4), "second", 1e-9, 1e-12);
  });
}

TEST(Autograd, AViewThatIsNeitherContiguousNorChannelsLastIsCopied) {
  torch::manual_seed(4);
  const torch::Tensor x = torch::randn({5, 7, 3, 4}).permute({3, 2, 0, 1}).requires_grad_();
  x.retain_grad();
  nn::SyncBatchNorm norm("bn", Channels(3), nullptr);
  const torch::Tensor y = norm->forward(x);
  ExpectClose(y, torch::batch_norm(x, {}, {}, {}, {}, true, 0.1, 1e-5, false), "output");
  y.square().sum().backward();
  EXPECT_EQ(x.grad().sizes(), x.sizes());
}

// The text of what `action` throws.
std::string TextOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const c10::Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Autograd, RefusesTheGradientOfAGradient) {
  nn::SyncBatchNorm norm("bn", Channels(3), nullptr);
  const torch::Tensor x = torch::randn({4, 3}).requires_grad_();
  const torch::Tensor y = norm->forward(x).sum();
  EXPECT_NE(TextOf([&] {
              torch::autograd::grad({y}, {x}, {}, true, /*create_graph=*/true);
            }).find("create_graph"),
            std::string::npos);
}

TEST(Autograd, RefusesABackwardWhenTheInputHasChanged) {
  nn::SyncBatchNorm norm("bn", Channels(3), nullptr);
  const torch::Tensor x = torch::randn({4, 3}).requires_grad_() * 1;
  const torch::Tensor y = norm->forward(x).sum();
  x.mul_(2);
  EXPECT_NE(TextOf([&] { y.backward(); }).find("modified by an inplace operation"),
            std::string::npos);
}

// As after a hook for saved tensors that took it away and brought it back.
TEST(Autograd, ABackwardReadsTheInputWhereAutogradHasItByThen) {
  const torch::Tensor values = torch::randn({4, 3}), dy = torch::randn({4, 3});
  const auto gradient = [&](bool moves) {
    nn::SyncBatchNorm norm("bn", Channels(3), nullptr);
    const torch::Tensor x = values.clone().requires_grad_();
    const torch::Tensor y = norm->forward(x);
    if (moves) {
      const torch::Tensor old = x.variable_data();
      x.set_data(values.clone());
      old.fill_(std::nan(""));
    }
    y.backward(dy);
    return x.grad();
  };
  EXPECT_TRUE(torch::equal(gradient(true), gradient(false)));
}

TEST(Autograd, AGraphMayOutliveItsModuleAndItsGroupButNotGoBackward) {
  torch::Tensor y;
  RunWorkers(1, [&](int, Reducer* member) {
    nn::SyncBatchNorm norm("bn", Channels(3), member);
    y = norm->forward(torch::randn({4, 3}).requires_grad_()).sum();
  });
  EXPECT_NE(TextOf([&] { y.backward(); }).find("module"), std::string::npos);
}

TEST(Autograd, AFailedRoundIsThrownOutOfBackwardWithItsStatus) {
  InProcessGroup group(2);
  group.FailRound(2, absl::AbortedError("rank 1 on host b is gone"));
  RunWorkers(group, [](int, Reducer* member) {
    nn::SyncBatchNorm norm("bn", Channels(3), member);
    const torch::Tensor x = torch::randn({4, 3}).requires_grad_();
    const torch::Tensor y = norm->forward(x).sum();
    try {
      y.backward();
      ADD_FAILURE() << "nothing was thrown";
    } catch (const nn::StatusError& error) {
      EXPECT_EQ(error.status().code(), absl::StatusCode::kAborted);
      EXPECT_NE(std::string(error.what()).find("rank 1 on host b is gone"), std::string::npos);
    }
  });
}

}  // namespace
}  // namespace syncnorm::testing
