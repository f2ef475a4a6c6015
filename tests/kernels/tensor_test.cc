#include <syncnorm/tensor.h>

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace syncnorm {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(TensorTest, ContiguousStridesAreRowMajor) {
  EXPECT_THAT(ContiguousStrides({8, 64, 28, 30}), ElementsAre(64 * 28 * 30, 28 * 30, 30, 1));
  EXPECT_THAT(ContiguousStrides({8, 64}), ElementsAre(64, 1));
  EXPECT_THAT(ContiguousStrides({}), IsEmpty());
}

TEST(TensorTest, ChannelsLastStridesPutTheChannelsInnermost) {
  EXPECT_THAT(ChannelsLastStrides({8, 64, 28, 30}), ElementsAre(28 * 30 * 64, 1, 30 * 64, 64));
  EXPECT_THAT(ChannelsLastStrides({8, 64, 5}), ElementsAre(5 * 64, 1, 64));
}

TEST(TensorTest, BothFormatsAgreeWithoutSpatialDimensions) {
  EXPECT_EQ(ContiguousStrides({8, 64}), ChannelsLastStrides({8, 64}));
}

TEST(TensorTest, AnEmptyDimensionLeavesNoStrideAtZero) {
  EXPECT_THAT(ContiguousStrides({0, 3, 4}), ElementsAre(12, 4, 1));
  EXPECT_THAT(ContiguousStrides({2, 0, 4}), ElementsAre(4, 4, 1));
  EXPECT_THAT(ChannelsLastStrides({2, 0, 4}), ElementsAre(4, 1, 1));
}

TEST(TensorTest, CountsItsElements) {
  float data[1];
  EXPECT_EQ(Contiguous(data, DType::kF32, {8, 64, 28, 28}).elements(), 8 * 64 * 28 * 28);
  const float* view = data;
  EXPECT_EQ(ChannelsLast(view, DType::kF32, {8, 0, 28}).elements(), 0);
}

TEST(TensorTest, AMutableTensorIsAlsoAConstantOne) {
  double data[6];
  const Tensor tensor = ChannelsLast(data, DType::kF64, {1, 2, 3});
  const ConstTensor view = tensor;
  EXPECT_EQ(view.data, data);
  EXPECT_EQ(view.dtype, DType::kF64);
  EXPECT_EQ(view.shape, tensor.shape);
  EXPECT_EQ(view.strides, tensor.strides);
}

TEST(TensorTest, DescribesItselfForErrorTexts) {
  float data[1];
  EXPECT_EQ(Describe(Contiguous(data, DType::kF32, {8, 64, 28, 28})),
            "f32 (8, 64, 28, 28) strides (50176, 784, 28, 1)");
  EXPECT_EQ(Describe(ChannelsLast(data, DType::kBF16, {2, 3, 4})),
            "bf16 (2, 3, 4) strides (12, 1, 3)");
}

TEST(TensorTest, KnowsTheSizesAndNamesOfItsDTypes) {
  EXPECT_EQ(SizeOf(DType::kF32), 4u);
  EXPECT_EQ(SizeOf(DType::kF64), 8u);
  EXPECT_EQ(SizeOf(DType::kF16), 2u);
  EXPECT_EQ(SizeOf(DType::kBF16), 2u);
  EXPECT_EQ(Name(DType::kF32), "f32");
  EXPECT_EQ(Name(DType::kF64), "f64");
  EXPECT_EQ(Name(DType::kF16), "f16");
  EXPECT_EQ(Name(DType::kBF16), "bf16");
}

}  // namespace
}  // namespace syncnorm
