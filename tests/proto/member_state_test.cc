// The state of a member as bytes.
#include "proto/member_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "proto/layer_state.h"

namespace syncnorm::wire {
namespace {

using ::testing::HasSubstr;

MemberState Sample() {
  MemberState state;
  state.layers["bn1"] = EncodeLayerState({{"running_mean", {0.5, -1.25}}, {"steps", {17}}});
  state.layers["bn2"] = std::string("\0\xff", 2);  // the coordinator and this file read none of it
  state.trainer = std::string("step\0 17", 8);
  state.boundaries = 4;
  return state;
}

TEST(MemberStateTest, ComesBackAsItWas) {
  for (const MemberState& state : {Sample(), MemberState{}, MemberState{{}, "weights", 0}}) {
    const auto back = DecodeMemberState(EncodeMemberState(state));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->layers, state.layers);
    EXPECT_EQ(back->trainer, state.trainer);
    EXPECT_EQ(back->boundaries, state.boundaries);
    EXPECT_EQ(EncodeMemberState(*back), EncodeMemberState(state));
  }
}

TEST(MemberStateTest, NothingIsTheStateOfNobody) {
  const auto nobody = DecodeMemberState("");
  ASSERT_TRUE(nobody.ok()) << nobody.status();
  EXPECT_TRUE(nobody->layers.empty());
  EXPECT_EQ(nobody->boundaries, 0u);
}

TEST(MemberStateTest, OtherBytesAreRefused) {
  const auto garbage = DecodeMemberState("\xff\xff\xff");
  EXPECT_EQ(garbage.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(garbage.status().message()), HasSubstr("3 bytes are not a MemberState"));
  // One that was cut is refused or another state, never taken for the whole.
  const std::string bytes = EncodeMemberState(Sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto cut = DecodeMemberState(bytes.substr(0, size));
    EXPECT_TRUE(!cut.ok() || EncodeMemberState(*cut) != bytes) << size;
  }
  EXPECT_FALSE(DecodeMemberState(bytes.substr(0, 5)).ok());
}

TEST(MemberStateTest, TwoLayersOfOneNameAreRefused) {
  const std::string bytes = EncodeMemberState(Sample());
  const auto twice = DecodeMemberState(bytes + bytes);  // protobuf appends repeated fields
  EXPECT_EQ(twice.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(twice.status().message()), HasSubstr("layer bn1 twice"));
}

TEST(MemberStateTest, FieldsOfALaterVersionAreIgnored) {
  // Field 100, length-delimited: tag (100 << 3 | 2) = 802 = a2 06.
  const auto later =
      DecodeMemberState(EncodeMemberState(Sample()) + std::string("\xa2\x06\x02hi", 5));
  ASSERT_TRUE(later.ok()) << later.status();
  EXPECT_EQ(later->layers, Sample().layers);
}

}  // namespace
}  // namespace syncnorm::wire
