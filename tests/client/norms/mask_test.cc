// Masks as trainers give them, and those that are refused.
#include "client/norms/mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace syncnorm::testing {
namespace {

using norms::ValidPositions;
using norms::ValidTokens;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::vector<int64_t> kShape = {2, 5, 3};  // (N, C, S)

std::string Refusal(const absl::Status& status) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  return std::string(status.message());
}

TEST(PositionMaskTest, TakesBytesAndFloatsOfBothShapes) {
  const uint8_t bytes[] = {1, 0, 1, 1, 1, 0};
  const float floats[] = {1, -0.0f, 1, 1, 1, 0};
  const PositionMask of_bytes{bytes, PositionMask::Type::kByte, {2, 3}};
  const PositionMask of_floats{floats, PositionMask::Type::kF32, {2, 1, 3}};
  EXPECT_THAT(*ValidPositions(&of_bytes, kShape, 6), ElementsAre(1, 0, 1, 1, 1, 0));
  EXPECT_THAT(*ValidPositions(&of_floats, kShape, 6), ElementsAre(1, 0, 1, 1, 1, 0));
}

TEST(PositionMaskTest, IsEmptyWhereNothingIsMaskedOut) {
  const uint8_t ones[] = {1, 1, 1, 1, 1, 1};
  const PositionMask mask{ones, PositionMask::Type::kByte, {2, 3}};
  EXPECT_THAT(*ValidPositions(&mask, kShape, 6), IsEmpty());
  EXPECT_THAT(*ValidPositions(nullptr, kShape, 6), IsEmpty());
  const PositionMask none{nullptr, PositionMask::Type::kByte, {0, 3}};
  EXPECT_THAT(*ValidPositions(&none, std::vector<int64_t>{0, 5, 3}, 0), IsEmpty());
}

TEST(PositionMaskTest, MayMaskAllPositions) {
  const uint8_t zeros[6] = {};
  const PositionMask mask{zeros, PositionMask::Type::kByte, {2, 3}};
  EXPECT_THAT(*ValidPositions(&mask, kShape, 6), ElementsAre(0, 0, 0, 0, 0, 0));
}

TEST(PositionMaskTest, RefusesOtherShapesAndNamesAllOfThem) {
  const uint8_t bytes[30] = {};
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{2, 5, 3}, {3, 2}, {6}, {2, 3, 1}, {}}) {
    const PositionMask mask{bytes, PositionMask::Type::kByte, shape};
    EXPECT_THAT(Refusal(ValidPositions(&mask, kShape, 6).status()),
                AllOf(HasSubstr("(2, 5, 3)"), HasSubstr("(2, 3)"), HasSubstr("(2, 1, 3)")));
  }
}

TEST(PositionMaskTest, RefusesOtherValuesAndNamesTheFirst) {
  const uint8_t bytes[] = {1, 0, 1, 255, 1, 0};
  const PositionMask of_bytes{bytes, PositionMask::Type::kByte, {2, 3}};
  EXPECT_THAT(Refusal(ValidPositions(&of_bytes, kShape, 6).status()),
              AllOf(HasSubstr("255"), HasSubstr("position 3")));
  const float floats[] = {1, 0.5f, 1, 1, 1, 0};
  const PositionMask of_floats{floats, PositionMask::Type::kF32, {2, 3}};
  EXPECT_THAT(Refusal(ValidPositions(&of_floats, kShape, 6).status()),
              AllOf(HasSubstr("0.5"), HasSubstr("position 1")));
  const float with_nan[] = {1, 1, 1, 1, 1, NAN};
  const PositionMask of_nan{with_nan, PositionMask::Type::kF32, {2, 3}};
  EXPECT_THAT(Refusal(ValidPositions(&of_nan, kShape, 6).status()),
              AllOf(HasSubstr("nan"), HasSubstr("position 5")));
}

TEST(PositionMaskTest, RefusesNullDataAndUnknownTypes) {
  const PositionMask null{nullptr, PositionMask::Type::kByte, {2, 3}};
  EXPECT_THAT(Refusal(ValidPositions(&null, kShape, 6).status()),
              AllOf(HasSubstr("null"), HasSubstr("(2, 3)")));
  const uint8_t bytes[6] = {};
  const PositionMask unknown{bytes, PositionMask::Type{7}, {2, 3}};
  EXPECT_THAT(Refusal(ValidPositions(&unknown, kShape, 6).status()), HasSubstr("type is 7"));
}

TEST(PaddingMaskTest, IsTurnedFromSamplesByTimeToTokens) {
  const uint8_t padding[] = {0, 0, 1,   // sample 0, times 0 to 2
                             0, 1, 1};  // sample 1
  EXPECT_THAT(*ValidTokens(padding, 3, 2), ElementsAre(1, 1, 1, 0, 0, 0));
  const uint8_t none[6] = {};
  EXPECT_THAT(*ValidTokens(none, 3, 2), IsEmpty());
  EXPECT_THAT(*ValidTokens(nullptr, 3, 2), IsEmpty());
  EXPECT_THAT(*ValidTokens(padding, int64_t{1} << 60, 0), IsEmpty());
}

TEST(PaddingMaskTest, RefusesOtherValuesAndNamesTheirPlace) {
  const uint8_t padding[] = {0, 0, 1, 0, 2, 1};
  EXPECT_THAT(Refusal(ValidTokens(padding, 3, 2).status()),
              AllOf(HasSubstr(" 2 "), HasSubstr("sample 1"), HasSubstr("time 1")));
}

}  // namespace
}  // namespace syncnorm::testing
