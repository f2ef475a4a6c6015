// Tensors as the kernels see them, and those that are refused.
#include "client/norms/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace syncnorm::testing {
namespace {

using kernels::Grid;
using norms::CheckLike;
using norms::GridOf;
using norms::TokenGridOf;
using ::testing::AllOf;
using ::testing::HasSubstr;

float memory[1024];

ConstTensor Make(std::vector<int64_t> shape, std::vector<int64_t> strides) {
  return {memory, DType::kF32, std::move(shape), std::move(strides)};
}

std::string Refusal(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(GridTest, SeesContiguousTensorsAsSamplesOfPlanes) {
  EXPECT_EQ(*GridOf("x", Contiguous(&memory[0], DType::kF32, {2, 3}), 3), (Grid{2, 3, 1}));
  EXPECT_EQ(*GridOf("x", Contiguous(&memory[0], DType::kF32, {2, 3, 4}), 3), (Grid{2, 3, 4}));
  EXPECT_EQ(*GridOf("x", Contiguous(&memory[0], DType::kF32, {2, 3, 4, 5, 6}), 3),
            (Grid{2, 3, 120}));
}

TEST(GridTest, SeesChannelsLastTensorsAsRowsOfChannels) {
  EXPECT_EQ(*GridOf("x", ChannelsLast(&memory[0], DType::kF32, {2, 3, 4, 5}), 3), (Grid{40, 3, 1}));
  EXPECT_EQ(*GridOf("x", ChannelsLast(&memory[0], DType::kF32, {2, 3, 2, 2, 2}), 3),
            (Grid{16, 3, 1}));
}

TEST(GridTest, IgnoresTheStridesOfSizesOfOne) {
  EXPECT_EQ(*GridOf("x", Make({1, 3, 4}, {999, 4, 1}), 3), (Grid{1, 3, 4}));
  EXPECT_EQ(*GridOf("x", Make({2, 1, 4}, {4, 77, 1}), 1), (Grid{2, 1, 4}));
  EXPECT_EQ(*GridOf("x", Make({2, 3, 1, 4}, {12, 1, 5, 3}), 3), (Grid{8, 3, 1}));
  EXPECT_EQ(*GridOf("x", Make({2, 3, 1, 1}, {3, 1, 9, 9}), 3), (Grid{2, 3, 1}));
  EXPECT_EQ(*TokenGridOf("x", Make({1, 5, 3}, {0, 3, 1}), 3), (Grid{5, 3, 1}));
}

TEST(GridTest, TakesTensorsWithoutElementsWhateverTheirStridesAndData) {
  const ConstTensor empty{nullptr, DType::kF16, {0, 3, 4}, {7, 7, 7}};
  EXPECT_EQ(GridOf("x", empty, 3)->positions(), 0);
  EXPECT_EQ(GridOf("x", Make({2, 3, 0}, {0, 0, 0}), 3)->positions(), 0);
  EXPECT_EQ(
      GridOf("x", Make({int64_t{1} << 40, 3, int64_t{1} << 40, 0}, {1, 1, 1, 1}), 3)->positions(),
      0);
  EXPECT_EQ(TokenGridOf("x", Make({4, 0, 3}, {1, 1, 1}), 3)->positions(), 0);
}

TEST(GridTest, SeesTokensInRows) {
  EXPECT_EQ(*TokenGridOf("x", Contiguous(&memory[0], DType::kF32, {4, 2, 3}), 3), (Grid{8, 3, 1}));
  EXPECT_EQ(*TokenGridOf("x", Contiguous(&memory[0], DType::kF32, {4, 3}), 3), (Grid{4, 3, 1}));
}

TEST(GridTest, RefusesOtherStridesAndSaysWhatItSawAndWhatItTakes) {
  EXPECT_THAT(Refusal(GridOf("x", Make({2, 3, 4}, {1, 2, 6}), 3).status()),
              AllOf(HasSubstr("x is f32 (2, 3, 4) strides (1, 2, 6)"), HasSubstr("contiguous"),
                    HasSubstr("channels last")));
  // A slice of a larger tensor, and a broadcast.
  EXPECT_THAT(Refusal(GridOf("x", Make({2, 3, 4}, {24, 8, 1}), 3).status()), HasSubstr("24, 8, 1"));
  EXPECT_THAT(Refusal(GridOf("x", Make({2, 3, 4}, {0, 4, 1}), 3).status()), HasSubstr("0, 4, 1"));
  EXPECT_THAT(Refusal(TokenGridOf("x", Make({2, 3, 4}, {4, 8, 1}), 4).status()),
              AllOf(HasSubstr("strides (4, 8, 1)"), HasSubstr("row-major")));
}

TEST(GridTest, RefusesWrongRanksAndChannels) {
  EXPECT_THAT(Refusal(GridOf("x", Make({3}, {1}), 3).status()),
              AllOf(HasSubstr("(3)"), HasSubstr("rank 2")));
  EXPECT_THAT(Refusal(GridOf("x", Make({2, 5}, {5, 1}), 3).status()),
              AllOf(HasSubstr("5 channels"), HasSubstr("layer has 3")));
  EXPECT_THAT(Refusal(GridOf("x", Make({2, 0}, {0, 1}), 3).status()), HasSubstr("0 channels"));
  EXPECT_THAT(Refusal(TokenGridOf("x", Make({1, 1, 1, 3}, {3, 3, 3, 1}), 3).status()),
              HasSubstr("(T, B, C) or (B, C)"));
  EXPECT_THAT(Refusal(TokenGridOf("x", Make({2, 5}, {5, 1}), 3).status()), HasSubstr("5 channels"));
}

TEST(GridTest, RefusesWhatIsNoTensor) {
  EXPECT_THAT(Refusal(GridOf("y", {nullptr, DType::kF32, {2, 3}, {3, 1}}, 3).status()),
              AllOf(HasSubstr("y is"), HasSubstr("null")));
  EXPECT_THAT(Refusal(GridOf("x", Make({2, 3}, {3}), 3).status()),
              AllOf(HasSubstr("2 sizes"), HasSubstr("1 strides")));
  EXPECT_THAT(Refusal(GridOf("x", Make({-2, 3}, {3, 1}), 3).status()), HasSubstr("-2"));
  EXPECT_THAT(Refusal(GridOf("x", {memory, DType{9}, {2, 3}, {3, 1}}, 3).status()),
              HasSubstr("dtype 9"));
  EXPECT_THAT(
      Refusal(GridOf("x", Make({int64_t{1} << 40, 3, int64_t{1} << 40}, {1, 1, 1}), 3).status()),
      HasSubstr("2^63"));
  const void* odd = reinterpret_cast<const char*>(memory) + 2;
  EXPECT_THAT(Refusal(GridOf("x", {odd, DType::kF32, {2, 3}, {3, 1}}, 3).status()),
              HasSubstr("aligned to 4"));
  EXPECT_TRUE(GridOf("x", {odd, DType::kF16, {2, 3}, {3, 1}}, 3).ok());
}

TEST(GridTest, TensorsOfACallMustBeAlike) {
  const ConstTensor x = Contiguous(&memory[0], DType::kF32, {2, 3, 4});
  const Grid grid = *GridOf("x", x, 3);
  EXPECT_TRUE(CheckLike("y", x, x, grid).ok());
  EXPECT_THAT(Refusal(CheckLike("y", Contiguous(&memory[0], DType::kF64, {2, 3, 4}), x, grid)),
              AllOf(HasSubstr("y is f64"), HasSubstr("x is f32")));
  EXPECT_THAT(Refusal(CheckLike("dy", Contiguous(&memory[0], DType::kF32, {2, 3, 5}), x, grid)),
              AllOf(HasSubstr("dy is f32 (2, 3, 5)"), HasSubstr("x is f32 (2, 3, 4)")));
  EXPECT_THAT(Refusal(CheckLike("dx", ChannelsLast(&memory[0], DType::kF32, {2, 3, 4}), x, grid)),
              HasSubstr("order in memory"));
  EXPECT_THAT(Refusal(CheckLike("dx", {nullptr, x.dtype, x.shape, x.strides}, x, grid)),
              HasSubstr("null"));
  // Strides of a size of one differ, the memory does not.
  const ConstTensor one = Make({1, 3, 4}, {5, 4, 1});
  EXPECT_TRUE(CheckLike("y", Make({1, 3, 4}, {6, 4, 1}), one, *GridOf("x", one, 3)).ok());
}

}  // namespace
}  // namespace syncnorm::testing
