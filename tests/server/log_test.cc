#include "server/log.h"

#include <gtest/gtest.h>

#include <string>

namespace syncnorm::server {
namespace {

std::string Logged(LogLevel level, const std::string& text) {
  testing::internal::CaptureStderr();
  Log(level, text);
  return testing::internal::GetCapturedStderr();
}

TEST(LogTest, WritesOneLineAboveTheLevel) {
  SetLogLevel(LogLevel::kInfo);
  EXPECT_EQ(Logged(LogLevel::kDebug, "quiet"), "");
  const std::string line = Logged(LogLevel::kWarning, "group \"a\" epoch 3: {} trouble");
  EXPECT_NE(line.find("warning syncnorm: group \"a\" epoch 3: {} trouble\n"), std::string::npos)
      << line;
}

TEST(LogTest, ATextCannotStartALineOfItsOwn) {
  SetLogLevel(LogLevel::kInfo);
  const std::string line = Logged(LogLevel::kInfo, "host a\nb\x1b[31m");
  EXPECT_NE(line.find("host a?b?[31m\n"), std::string::npos) << line;
}

TEST(LogTest, KnowsItsLevels) {
  LogLevel level = LogLevel::kOff;
  EXPECT_TRUE(ParseLogLevel("debug", &level).ok());
  EXPECT_EQ(level, LogLevel::kDebug);
  EXPECT_FALSE(ParseLogLevel("verbose", &level).ok());
}

TEST(RateLimitTest, LetsABurstThroughThenCountsWhatItDrops) {
  RateLimit limit;
  const absl::Time start = absl::UnixEpoch();
  uint64_t dropped = 0;
  int allowed = 0;
  for (int i = 0; i < 100; ++i) allowed += limit.Allow(start, &dropped);
  EXPECT_EQ(allowed, RateLimit::kBurst);
  EXPECT_TRUE(limit.Allow(start + absl::Seconds(1), &dropped));
  EXPECT_EQ(dropped, 80u);
  EXPECT_TRUE(limit.Allow(start + absl::Seconds(1), &dropped));
  EXPECT_EQ(dropped, 0u);
  EXPECT_FALSE(limit.Allow(start + absl::Seconds(1), &dropped));
}

}  // namespace
}  // namespace syncnorm::server
