#include "bench/gpu/verify.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"
#include "kernels/element.h"

namespace syncnorm::bench::gpu {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<uint8_t> TensorOf(DType dtype, const std::vector<double>& values) {
  std::vector<uint8_t> bytes(values.size() * SizeOf(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    kernels::WriteElement(dtype, bytes.data(), static_cast<int64_t>(i), values[i]);
  }
  return bytes;
}

TEST(VerifyTest, NumbersWithinTheirBoundAreRight) {
  EXPECT_EQ(Difference("m", {1, 2, 3}, {1.05, 1.95, 3}, 0.1), "");
}

TEST(VerifyTest, TheFirstWrongNumberIsNamedWithBothValues) {
  const std::string text = Difference("mean", {1, 2.5, 9}, {1, 2, 3}, 0.1);
  EXPECT_EQ(text, "mean[1] is 2.5, and 2 by the scalar backend");
}

TEST(VerifyTest, NanIsNearNothing) {
  EXPECT_NE(Difference("m", {kNan}, {1}, 1e9), "");
  EXPECT_NE(Difference("m", {1}, {kNan}, 1e9), "");
  for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kBF16}) {
    EXPECT_NE(Difference("y", dtype, TensorOf(dtype, {kNan}), TensorOf(dtype, {0})), "");
  }
}

TEST(VerifyTest, OtherSizesAreWrong) {
  EXPECT_NE(Difference("m", {1, 2}, {1}, 1), "");
  EXPECT_NE(Difference("y", DType::kF32, TensorOf(DType::kF32, {1}), {}), "");
}

TEST(VerifyTest, ATensorMayDifferByOneRoundingAndNoMore) {
  struct Case {
    DType dtype;
    double near, far;
  };
  // The last place of 1 to 2 is 2^-23, 2^-52, 2^-10 and 2^-7.
  for (const Case& c : {Case{DType::kF32, 0x1p-23, 1e-4}, Case{DType::kF64, 0x1p-52, 1e-12},
                        Case{DType::kF16, 0x1p-10, 0x1p-8}, Case{DType::kBF16, 0x1p-7, 0x1p-5}}) {
    const std::vector<uint8_t> expected = TensorOf(c.dtype, {0, 1, -3});
    EXPECT_EQ(Difference("y", c.dtype, TensorOf(c.dtype, {0, 1 + c.near, -3}), expected), "");
    EXPECT_NE(Difference("y", c.dtype, TensorOf(c.dtype, {0, 1 + c.far, -3}), expected), "");
    EXPECT_NE(Difference("y", c.dtype, TensorOf(c.dtype, {0, 1, 3}), expected), "");
  }
}

TEST(VerifyTest, ASumThatForgotATermIsFoundOut) {
  // Of 100,352 positions, those of ResNet-50's stage 1, with terms of about 1: a missing window of
  // four of them is over the bound.
  EXPECT_LT(SumBound(DType::kF32, 100352), 1);
  EXPECT_LT(SumBound(DType::kF64, 100352), 1e-6);
}

}  // namespace
}  // namespace syncnorm::bench::gpu
