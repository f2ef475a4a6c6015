#include "server/log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
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

TEST(LogTest, WritesOneObjectALineInJson) {
  SetLogLevel(LogLevel::kInfo);
  SetLogFormat(LogFormat::kJson);
  testing::internal::CaptureStderr();
  Log(LogLevel::kWarning, "a \"%v\" {} \n\xff", {.group = "world", .key = {.epoch = 3}});
  const std::string line = testing::internal::GetCapturedStderr();
  SetLogFormat(LogFormat::kText);
  ASSERT_EQ(line.find('\n'), line.size() - 1) << line;
  const nlohmann::json object = nlohmann::json::parse(line);
  EXPECT_EQ(object["level"], "warning");
  EXPECT_EQ(object["msg"], "a \"%v\" {} \n\xef\xbf\xbd");
  EXPECT_EQ(object["group"], "world");
  EXPECT_EQ(object["epoch"], 3);
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_full, std::string(object["ts"]), &time, &error))
      << line;
  EXPECT_EQ(object.size(), 5u) << line;
}

TEST(LogTest, WithoutAThreadALineIsThereAtOnceAndNoneIsDropped) {
  SetLogLevel(LogLevel::kInfo);
  EXPECT_NE(Logged(LogLevel::kInfo, "here"), "");
  EXPECT_TRUE(FlushLog(absl::ZeroDuration()));
  EXPECT_EQ(LogDropped(), 0u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}), 1);
}

TEST(LogTest, KnowsItsLevels) {
  LogLevel level = LogLevel::kOff;
  EXPECT_TRUE(ParseLogLevel("debug", &level).ok());
  EXPECT_EQ(level, LogLevel::kDebug);
  EXPECT_FALSE(ParseLogLevel("verbose", &level).ok());
  EXPECT_STREQ(Name(LogLevel::kWarning), "warn");
}

TEST(LogTest, KnowsItsFormats) {
  LogFormat format = LogFormat::kText;
  EXPECT_TRUE(ParseLogFormat("json", &format).ok());
  EXPECT_EQ(format, LogFormat::kJson);
  EXPECT_FALSE(ParseLogFormat("xml", &format).ok());
  EXPECT_STREQ(Name(LogFormat::kText), "text");
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
