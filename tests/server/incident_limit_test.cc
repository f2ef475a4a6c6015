// How often a group's failures are reported.

#include "server/incident_limit.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

TEST(IncidentLimitTest, AllowsOneInTenSecondsForEachGroup) {
  IncidentLimit limit;
  EXPECT_TRUE(limit.Allow(kStart, "a"));
  EXPECT_FALSE(limit.Allow(kStart + absl::Seconds(9.9), "a"));
  EXPECT_TRUE(limit.Allow(kStart + absl::Seconds(9.9), "b"));
  EXPECT_TRUE(limit.Allow(kStart + absl::Seconds(10), "a"));
  EXPECT_FALSE(limit.Allow(kStart + absl::Seconds(19.9), "a"));
}

TEST(IncidentLimitTest, RemembersNoMoreNamesThanItMay) {
  IncidentLimit limit;
  for (size_t i = 0; i < IncidentLimit::kNames; ++i) {
    EXPECT_TRUE(limit.Allow(kStart, absl::StrCat("group", i)));
  }
  EXPECT_FALSE(limit.Allow(kStart, "one more"));
  EXPECT_TRUE(limit.Allow(kStart + absl::Seconds(10), "one more"));
  // The others were forgotten to make room, and have their turn again.
  EXPECT_TRUE(limit.Allow(kStart + absl::Seconds(10), "group0"));
}

}  // namespace
}  // namespace syncnorm::server
