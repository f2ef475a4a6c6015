// Gradients against differences of the function itself, in float64.
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>
#include <syncnorm/power_norm.h>

#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

// d/dx of a scalar function, by central differences.
Numbers Differences(const Numbers& x, const std::function<double(const Numbers&)>& loss) {
  constexpr double kStep = 1e-6;
  Numbers slopes;
  for (size_t i = 0; i < x.size(); ++i) {
    Numbers up = x, down = x;
    up[i] += kStep;
    down[i] -= kStep;
    slopes.push_back((loss(up) - loss(down)) / (2 * kStep));
  }
  return slopes;
}

// A loss whose gradient differs at every element: sum of c sin(y).
double Loss(const Numbers& y, const Numbers& c) {
  double sum = 0;
  for (size_t i = 0; i < y.size(); ++i) sum += c[i] * std::sin(y[i]);
  return sum;
}

Numbers LossGradient(const Numbers& y, const Numbers& c) {
  Numbers gradient;
  for (size_t i = 0; i < y.size(); ++i) gradient.push_back(c[i] * std::cos(y[i]));
  return gradient;
}

TEST(GradientCheckTest, BatchNormDenseAndMasked) {
  std::mt19937_64 random(Seed(51));
  const std::vector<int64_t> shape = {4, 3, 2};
  const std::vector<uint8_t> valid = {1, 1, 0, 1, 1, 0, 0, 1};
  const PositionMask mask{valid.data(), PositionMask::Type::kByte, {4, 2}};
  for (const PositionMask* given : {static_cast<const PositionMask*>(nullptr), &mask}) {
    const Numbers weight = Normal(&random, 3), bias = Normal(&random, 3);
    const Numbers x = Normal(&random, 24, 1, 2), c = Normal(&random, 24);
    const auto forward = [&](const Numbers& numbers, const Numbers& w, const Numbers& b,
                             const std::function<void(SyncBatchNorm*, const Numbers&,
                                                      const SyncBatchNorm::Context&)>& then) {
      auto norm = *SyncBatchNorm::Create("bn", {.channels = 3}, nullptr);
      norm->weight() = w;
      norm->bias() = b;
      const HostTensor in(DType::kF64, shape, Layout::kContiguous, numbers);
      HostTensor y(DType::kF64, shape, Layout::kContiguous);
      SyncBatchNorm::Context context;
      EXPECT_TRUE(norm->Forward(in.tensor(), given, y.tensor(), &context).ok());
      if (then) then(norm.get(), y.Load(), context);
      return Loss(y.Load(), c);
    };
    HostTensor dx(DType::kF64, shape, Layout::kContiguous);
    SyncBatchNorm::Gradients gradients;
    forward(x, weight, bias, [&](SyncBatchNorm* norm, const Numbers& y, const auto& context) {
      const HostTensor dy(DType::kF64, shape, Layout::kContiguous, LossGradient(y, c));
      const Tensor dx_tensor = dx.tensor();
      ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, &gradients).ok());
    });
    ExpectClose("bn gradient check dx", dx.Load(),
                Differences(x, [&](const Numbers& at) { return forward(at, weight, bias, {}); }),
                1e-8);
    ExpectClose("bn gradient check dw", gradients.weight,
                Differences(weight, [&](const Numbers& at) { return forward(x, at, bias, {}); }),
                1e-8);
    ExpectClose("bn gradient check db", gradients.bias,
                Differences(bias, [&](const Numbers& at) { return forward(x, weight, at, {}); }),
                1e-8);
  }
}

// The paper's warm-up is exact.  Masked, if the loss does not see the padding.
TEST(GradientCheckTest, PowerNormInThePapersWarmUp) {
  std::mt19937_64 random(Seed(52));
  const std::vector<int64_t> shape = {3, 2, 6};
  const std::vector<uint8_t> padding = {0, 0, 1, 0, 0, 0};  // sample 0, time 2
  for (const uint8_t* given : {static_cast<const uint8_t*>(nullptr), padding.data()}) {
    const Numbers weight = Normal(&random, 6), x = Normal(&random, 36, 0.5, 2);
    Numbers c = Normal(&random, 36);
    for (int i = 0; given != nullptr && i < 6; ++i) c[4 * 6 + i] = 0;
    const PowerNormOptions options{
        .channels = 6, .groups = 2, .semantics = PowerNormSemantics::kPaper};
    const auto forward = [&](const Numbers& numbers,
                             const std::function<void(SyncPowerNorm*, const Numbers&,
                                                      const SyncPowerNorm::Context&)>& then) {
      auto norm = *SyncPowerNorm::Create("pn", options, nullptr);
      norm->weight() = weight;
      const HostTensor in(DType::kF64, shape, Layout::kTokens, numbers);
      HostTensor y(DType::kF64, shape, Layout::kTokens);
      SyncPowerNorm::Context context;
      EXPECT_TRUE(norm->Forward(in.tensor(), given, y.tensor(), &context).ok());
      if (then) then(norm.get(), y.Load(), context);
      return Loss(y.Load(), c);
    };
    HostTensor dx(DType::kF64, shape, Layout::kTokens);
    forward(x, [&](SyncPowerNorm* norm, const Numbers& y, const auto& context) {
      const HostTensor dy(DType::kF64, shape, Layout::kTokens, LossGradient(y, c));
      const Tensor dx_tensor = dx.tensor();
      ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, nullptr).ok());
    });
    ExpectClose("pn-v gradient check dx", dx.Load(),
                Differences(x, [&](const Numbers& at) { return forward(at, {}); }), 1e-8);
  }
}

}  // namespace
}  // namespace syncnorm::testing
