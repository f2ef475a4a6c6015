#include "server/log_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

// By assignments: g++ 12 takes braces around a key for a use of what is not set.
Subject About(const std::string& group, const RoundKey& key = {},
              const std::vector<uint32_t>& ranks = {}, const std::string& peer = "") {
  Subject subject;
  subject.group = group;
  subject.key = key;
  subject.ranks = ranks;
  subject.peer = peer;
  return subject;
}

nlohmann::json Parsed(const std::string& text, const Subject& subject) {
  const std::string line = absl::StrCat("{", JsonFields(text, subject), "}");
  EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](unsigned char c) {
    return absl::ascii_isprint(c);
  })) << line;
  return nlohmann::json::parse(line);
}

TEST(LogLineTest, AWholeSubjectHasAllKeys) {
  const Subject subject =
      About("world", {3, 40, "bn1", Direction::kBackward, 17}, {2, 5}, "ipv4:10.0.0.1:4711");
  EXPECT_EQ(Parsed("a sentence", subject), nlohmann::json({{"msg", "a sentence"},
                                                           {"group", "world"},
                                                           {"epoch", 3},
                                                           {"round", 40},
                                                           {"layer", "bn1"},
                                                           {"direction", "backward"},
                                                           {"step", 17},
                                                           {"ranks", {2, 5}},
                                                           {"peer", "ipv4:10.0.0.1:4711"}}));
}

TEST(LogLineTest, WhatIsNotKnownHasNoKey) {
  EXPECT_EQ(Parsed("a", {}), nlohmann::json({{"msg", "a"}}));
  EXPECT_EQ(Parsed("a", About("g", {.epoch = 3, .layer = "no round"})),
            nlohmann::json({{"msg", "a"}, {"group", "g"}, {"epoch", 3}}));
}

TEST(LogLineTest, EveryByteOfAPeersNameLeavesOneObject) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string name = {'a', static_cast<char>(byte), '"', 'z'};
    const nlohmann::json line = Parsed(name, About(name, {.round = 1, .layer = name}, {}, name));
    const std::string whole = byte < 128 ? name : "a\xef\xbf\xbd\"z";  // U+FFFD
    for (const char* key : {"msg", "group", "layer", "peer"}) EXPECT_EQ(line[key], whole) << byte;
  }
  EXPECT_EQ(Parsed("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", {})["msg"],
            "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80");
  EXPECT_EQ(Parsed("cut \xf0\x9f", {})["msg"], "cut \xef\xbf\xbd");
}

TEST(LogLineTest, LongTextsAndListsAreCut) {
  std::vector<uint32_t> ranks(4096);
  std::iota(ranks.begin(), ranks.end(), 0);
  const std::string text(100'000, 'x');
  const nlohmann::json line = Parsed(text, About(text, {}, ranks));
  EXPECT_EQ(line["msg"], std::string(4096, 'x') + "...");
  EXPECT_EQ(line["group"], line["msg"]);
  EXPECT_EQ(line["ranks"].size(), 16u);
  EXPECT_EQ(line["ranks_count"], 4096);
  EXPECT_EQ(TextLine(text), line["msg"]);
}

TEST(LogLineTest, TextHasNoControlCharacters) {
  EXPECT_EQ(TextLine("host a\nb\x1b[31m\x7f {}"), "host a?b?[31m? {}");
}

}  // namespace
}  // namespace syncnorm::server
