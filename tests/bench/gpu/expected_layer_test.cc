// The CPU's layers, over a group in this process, are held to be right (tests/client/norms).
#include "bench/gpu/expected_layer.h"

#include <syncnorm/batch_norm.h>
#include <syncnorm/power_norm.h>

#include "gtest/gtest.h"
#include "tests/support/in_process_group.h"

namespace syncnorm::bench::gpu {
namespace {

Case BatchNormCase() {
  return {.dtype = DType::kF32, .n = 3, .channels = 4, .height = 2, .width = 2};
}
Case PowerNormCase() {
  Case c = BatchNormCase();
  c.power_norm = true;
  c.groups = 2;
  return c;
}

Outputs Sized(const Case& c) {
  const std::vector<uint8_t> zeros(static_cast<size_t>(c.elements()) * SizeOf(c.dtype));
  return {zeros, zeros};
}

// The first step of a batch norm, as layer_cases.cc makes it; `reducer` may be null.
Outputs BatchNormOutputs(const Case& c, int rank, Reducer* reducer) {
  Outputs out = Sized(c);
  const std::vector<uint8_t> x = InputOf(c, rank), dy = GradientOf(c, rank);
  const std::vector<int64_t> shape = {c.n, c.channels, c.height, c.width};
  auto norm = SyncBatchNorm::Create("bn", {.channels = c.channels}, reducer);
  EXPECT_TRUE(norm.ok()) << norm.status();
  (*norm)->bias().assign(static_cast<size_t>(c.channels), 0.25);
  SyncBatchNorm::Context context;
  const void* const in = x.data();
  const void* const gradient = dy.data();
  EXPECT_TRUE((*norm)
                  ->Forward(Contiguous(in, c.dtype, shape), nullptr,
                            Contiguous(out.y.data(), c.dtype, shape), &context)
                  .ok());
  const Tensor dx = Contiguous(out.dx.data(), c.dtype, shape);
  EXPECT_TRUE((*norm)->Backward(context, Contiguous(gradient, c.dtype, shape), &dx, nullptr).ok());
  return out;
}

// Two steps of a PowerNorm: dx of the first, y of the second.
Outputs PowerNormOutputs(const Case& c, int rank, Reducer* reducer) {
  Outputs out = Sized(c);
  const std::vector<uint8_t> x = InputOf(c, rank), dy = GradientOf(c, rank);
  const std::vector<int64_t> shape = {c.n * c.height * c.width, c.channels};
  auto norm = SyncPowerNorm::Create(
      "pn", {.channels = c.channels, .warmup_iters = 0, .groups = c.groups}, reducer);
  EXPECT_TRUE(norm.ok()) << norm.status();
  (*norm)->bias().assign(static_cast<size_t>(c.channels), 0.25);
  const void* const in = x.data();
  const void* const gradient = dy.data();
  std::vector<uint8_t> other = out.dx;
  for (std::vector<uint8_t>* dx : {&out.dx, &other}) {
    SyncPowerNorm::Context context;
    EXPECT_TRUE((*norm)
                    ->Forward(Contiguous(in, c.dtype, shape), nullptr,
                              Contiguous(out.y.data(), c.dtype, shape), &context)
                    .ok());
    const Tensor to = Contiguous(dx->data(), c.dtype, shape);
    EXPECT_TRUE(
        (*norm)->Backward(context, Contiguous(gradient, c.dtype, shape), &to, nullptr).ok());
  }
  EXPECT_TRUE((*norm)->Drain().ok());
  return out;
}

Outputs OutputsOf(const Case& c, int rank, Reducer* reducer) {
  return c.power_norm ? PowerNormOutputs(c, rank, reducer) : BatchNormOutputs(c, rank, reducer);
}

TEST(ExpectedLayerTest, RanksThatShareTheirStatisticsAreRight) {
  for (const Case& c : {BatchNormCase(), PowerNormCase()}) {
    std::vector<Outputs> got(2);
    testing::InProcessGroup group(2);
    group.Run([&](int rank, Reducer* reducer) {
      got[static_cast<size_t>(rank)] = OutputsOf(c, rank, reducer);
    });
    EXPECT_EQ(CheckOutputs(c, got), "");
    got[1].dx[7] ^= 1;
    EXPECT_NE(CheckOutputs(c, got).find("backward: dx["), std::string::npos);
  }
}

TEST(ExpectedLayerTest, OneWorkerAloneIsRightAndTwoThatDoNotShareAreWrong) {
  for (const Case& c : {BatchNormCase(), PowerNormCase()}) {
    const Outputs first = OutputsOf(c, 0, nullptr), second = OutputsOf(c, 1, nullptr);
    EXPECT_EQ(CheckOutputs(c, {first}), "");
    EXPECT_NE(CheckOutputs(c, {first, second}), "");
    EXPECT_NE(CheckOutputs(c, {second}), "");
  }
}

TEST(ExpectedLayerTest, NothingIsWrong) {
  for (const Case& c : {BatchNormCase(), PowerNormCase()}) {
    const std::string wrong = CheckOutputs(c, {Sized(c), Sized(c)});
    EXPECT_NE(wrong.find("forward: y[0] is 0"), std::string::npos) << wrong;
  }
}

}  // namespace
}  // namespace syncnorm::bench::gpu
