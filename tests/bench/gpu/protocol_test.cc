#include "bench/gpu/protocol.h"

#include "gtest/gtest.h"

namespace syncnorm::bench::gpu {
namespace {

nlohmann::json Request() {
  return {{"norm", "BatchNorm"},
          {"dtype", "f16"},
          {"channels_last", false},
          {"n", 2},
          {"channels", 6},
          {"height", 3},
          {"width", 4},
          {"groups", 1},
          {"repetitions", 5}};
}

std::string ErrorOf(const nlohmann::json& request) {
  const auto parsed = ParseCase(request.dump());
  const auto* wrong = std::get_if<std::string>(&parsed);
  return wrong == nullptr ? "none" : *wrong;
}

TEST(ProtocolTest, ARequestIsACase) {
  const auto parsed = ParseCase(Request().dump());
  ASSERT_TRUE(std::holds_alternative<Case>(parsed)) << std::get<std::string>(parsed);
  const Case& c = std::get<Case>(parsed);
  EXPECT_FALSE(c.power_norm);
  EXPECT_EQ(c.dtype, DType::kF16);
  EXPECT_EQ(c.elements(), 2 * 6 * 3 * 4);
  EXPECT_EQ(c.repetitions, 5);
  EXPECT_EQ(c.grid(), (kernels::Grid{2, 6, 12}));
}

TEST(ProtocolTest, PositionsAreTheRowsOfChannelsLastAndOfTokens) {
  nlohmann::json request = Request();
  request["channels_last"] = true;
  EXPECT_EQ(std::get<Case>(ParseCase(request.dump())).grid(), (kernels::Grid{24, 6, 1}));
  request["channels_last"] = false;
  request["norm"] = "PowerNorm";
  EXPECT_EQ(std::get<Case>(ParseCase(request.dump())).grid(), (kernels::Grid{24, 6, 1}));
}

TEST(ProtocolTest, WhatIsNoCaseIsRefusedAndSaysWhy) {
  EXPECT_NE(std::get<std::string>(ParseCase("[1]")).find("not a JSON object"), std::string::npos);
  EXPECT_NE(std::get<std::string>(ParseCase("{\"norm\":")).find("not a JSON object"),
            std::string::npos);
  for (const auto& [key, value, words] :
       std::vector<std::tuple<std::string, nlohmann::json, std::string>>{
           {"norm", "LayerNorm", "no norm 'LayerNorm'"},
           {"dtype", "f8", "no dtype 'f8'"},
           {"n", 0, "not in 1 to 2^20"},
           {"repetitions", -1, "not in 1 to 2^20"},
           {"width", 1 << 21, "not in 1 to 2^20"},
           {"groups", 4, "groups do not divide"},
           {"channels", "many", "type must be number"}}) {
    nlohmann::json request = Request();
    request[key] = value;
    EXPECT_NE(ErrorOf(request).find(words), std::string::npos) << key << ": " << ErrorOf(request);
    request.erase(key);
    EXPECT_NE(ErrorOf(request).find("'" + key + "' not found"), std::string::npos);
  }
  nlohmann::json request = Request();
  for (const char* size : {"n", "channels", "height", "width"}) request[size] = 1 << 20;
  EXPECT_NE(ErrorOf(request).find("more than 2^40"), std::string::npos) << ErrorOf(request);
}

}  // namespace
}  // namespace syncnorm::bench::gpu
