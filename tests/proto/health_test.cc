// The bytes of gRPC's health service, against those that its documentation's fields make.

#include "proto/health.h"

#include <gtest/gtest.h>

#include <string>

namespace syncnorm::health {
namespace {

TEST(HealthTest, BytesAreThoseOfTheContract) {
  EXPECT_EQ(EncodeRequest(""), "");
  EXPECT_EQ(EncodeRequest("abc"),
            "\x0a\x03"
            "abc");
  EXPECT_EQ(EncodeResponse(ServingStatus::kUnknown), "");
  EXPECT_EQ(EncodeResponse(ServingStatus::kServing), "\x08\x01");
  EXPECT_EQ(EncodeResponse(ServingStatus::kNotServing), "\x08\x02");
  EXPECT_EQ(EncodeResponse(ServingStatus::kNoService), "\x08\x03");
}

TEST(HealthTest, WhatIsEncodedIsDecoded) {
  for (const char* service : {"", "liveness", "syncnorm.v1.Coordinator"}) {
    EXPECT_EQ(DecodeRequest(EncodeRequest(service)), service);
  }
  for (const ServingStatus status : {ServingStatus::kUnknown, ServingStatus::kServing,
                                     ServingStatus::kNotServing, ServingStatus::kNoService}) {
    EXPECT_EQ(DecodeResponse(EncodeResponse(status)), status);
  }
}

TEST(HealthTest, FieldsOfLaterVersionsAreSkippedAndTheLastOfSeveralCounts) {
  EXPECT_EQ(DecodeRequest("\x12\x01z\x0a\x01"
                          "a\x0a\x01"
                          "b"),
            "b");
  EXPECT_EQ(DecodeResponse("\x08\x01\x08\x02\x12\x01z"), ServingStatus::kNotServing);
  EXPECT_EQ(DecodeResponse("\x08\x63"), ServingStatus::kUnknown);
}

TEST(HealthTest, WhatIsNoMessageIsNone) {
  EXPECT_FALSE(
      DecodeRequest("\x0a\x05"
                    "abc"))
      << "shorter than it says";
  EXPECT_FALSE(DecodeResponse("\x08"));
  EXPECT_FALSE(DecodeResponse(std::string(1, '\0')));
}

}  // namespace
}  // namespace syncnorm::health
