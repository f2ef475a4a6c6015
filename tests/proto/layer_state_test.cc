// Layer states as bytes.
#include "proto/layer_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>

namespace syncnorm::wire {
namespace {

using ::testing::HasSubstr;

TEST(LayerStateTest, ComesBackBitForBit) {
  const LayerState state = {
      {"empty", {}},
      {"iters", {12}},
      {"mean", {-0.0, 0.1, std::numeric_limits<double>::denorm_min(), 1e308}},
      {"odd",
       {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}}};
  const auto back = DecodeLayerState(EncodeLayerState(state));
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->size(), state.size());
  for (const auto& [name, values] : state) {
    ASSERT_EQ(back->at(name).size(), values.size()) << name;
    if (values.empty()) continue;
    EXPECT_EQ(std::memcmp(back->at(name).data(), values.data(), values.size() * sizeof(double)), 0)
        << name;
  }
  EXPECT_EQ(EncodeLayerState(*back), EncodeLayerState(state));
}

TEST(LayerStateTest, OtherBytesAreRefused) {
  const auto garbage = DecodeLayerState("\xff\xff\xff");
  EXPECT_EQ(garbage.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(garbage.status().message()), HasSubstr("3 bytes are not a LayerState"));
  const std::string bytes = EncodeLayerState({{"mean", {1, 2}}});
  EXPECT_FALSE(DecodeLayerState(bytes.substr(0, bytes.size() - 3)).ok());
}

TEST(LayerStateTest, TwoEntriesOfOneNameAreRefused) {
  const std::string one = EncodeLayerState({{"mean", {1}}});
  const auto twice = DecodeLayerState(one + one);  // protobuf appends repeated fields
  EXPECT_EQ(twice.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(twice.status().message()), HasSubstr("mean twice"));
}

TEST(LayerStateTest, FieldsOfALaterVersionAreIgnored) {
  // Field 100, length-delimited: tag (100 << 3 | 2) = 802 = a2 06.
  const auto later =
      DecodeLayerState(EncodeLayerState({{"mean", {1}}}) + std::string("\xa2\x06\x02hi", 5));
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_EQ(*later, (LayerState{{"mean", {1}}}));
}

}  // namespace
}  // namespace syncnorm::wire
