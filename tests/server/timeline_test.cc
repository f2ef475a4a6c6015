// The last minutes of a group, made of differences of its counters.

#include "server/timeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace syncnorm::server {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

class TimelineTest : public testing::Test {
 protected:
  // A round of two, in which `rank` of 1 and 2 was `late` behind rank 0.
  void Round(uint32_t rank, absl::Duration late) {
    lateness_.Add("bn", Direction::kForward,
                  std::vector<Arrival>{{0, kStart}, {rank, kStart + late}});
    durations_.Add(late);
  }
  void Sample(absl::Duration after) { timeline_.Sample(kStart + after, durations_, lateness_); }
  Timeline::Bin Recent(absl::Duration after) {
    return timeline_.Recent(kStart + after, durations_, lateness_);
  }

  Lateness lateness_{10};
  RoundHistogram durations_;
  Timeline timeline_{kStart};
};

TEST_F(TimelineTest, ABinHasWhatCameInIt) {
  Round(1, absl::Milliseconds(2));
  Round(1, absl::Milliseconds(4));
  Sample(absl::Seconds(5));
  Round(2, absl::Milliseconds(100));
  Sample(absl::Seconds(11));
  ASSERT_EQ(timeline_.bins().size(), 2u);
  const Timeline::Bin& first = timeline_.bins()[0];
  EXPECT_EQ(first.ended, kStart + absl::Seconds(5));
  EXPECT_EQ(first.length, absl::Seconds(5));
  EXPECT_EQ(first.durations.count(), 2u);
  ASSERT_EQ(first.ranks.size(), 2u);
  EXPECT_EQ(first.ranks[1].rounds, 2u);
  EXPECT_EQ(first.ranks[1].last, 2u);
  EXPECT_FLOAT_EQ(first.ranks[1].late_s, 0.006f);
  const Timeline::Bin& second = timeline_.bins()[1];
  EXPECT_EQ(second.length, absl::Seconds(6));
  ASSERT_EQ(second.ranks.size(), 3u);
  EXPECT_EQ(second.ranks[0].rounds, 1u);
  EXPECT_EQ(second.ranks[1].rounds, 0u);
  EXPECT_FLOAT_EQ(second.ranks[1].late_s, 0);
  EXPECT_FLOAT_EQ(second.ranks[2].late_s, 0.1f);
}

TEST_F(TimelineTest, LooksThatComeEarlyChangeNothing) {
  Round(1, absl::Milliseconds(2));
  Sample(absl::Seconds(4.9));
  EXPECT_TRUE(timeline_.bins().empty());
  Sample(absl::Seconds(5));
  EXPECT_EQ(timeline_.bins().size(), 1u);
  Sample(absl::Seconds(5));
  EXPECT_EQ(timeline_.bins().size(), 1u);
}

TEST_F(TimelineTest, KeepsTheLatestBins) {
  for (size_t i = 1; i <= Timeline::kBins + 3; ++i) Sample(i * Timeline::kBin);
  ASSERT_EQ(timeline_.bins().size(), Timeline::kBins);
  EXPECT_EQ(timeline_.bins().front().ended, kStart + 4 * Timeline::kBin);
}

TEST_F(TimelineTest, RecentIsTheLastMinuteAndWhatHasComeSince) {
  Round(1, absl::Milliseconds(2));  // too long ago in the end
  for (size_t i = 1; i <= Timeline::kRecentBins; ++i) Sample(i * Timeline::kBin);
  EXPECT_EQ(Recent(absl::Seconds(60)).durations.count(), 1u);
  Round(2, absl::Milliseconds(3));
  Sample(absl::Seconds(65));
  Round(2, absl::Milliseconds(4));
  const Timeline::Bin recent = Recent(absl::Seconds(67));
  EXPECT_EQ(recent.length, absl::Seconds(62));
  EXPECT_EQ(recent.durations.count(), 2u);
  ASSERT_EQ(recent.ranks.size(), 3u);
  EXPECT_EQ(recent.ranks[0].rounds, 2u);
  EXPECT_EQ(recent.ranks[1].rounds, 0u);
  EXPECT_EQ(recent.ranks[2].last, 2u);
  EXPECT_FLOAT_EQ(recent.ranks[2].late_s, 0.007f);
}

TEST_F(TimelineTest, RecentIsThereBeforeTheFirstBin) {
  Round(1, absl::Milliseconds(2));
  EXPECT_EQ(Recent(absl::Seconds(1)).durations.count(), 1u);
  EXPECT_EQ(Recent(absl::Seconds(1)).length, absl::Seconds(1));
}

TEST_F(TimelineTest, OfVeryManyRanksTheFirstAreTold) {
  Round(Timeline::kRanks + 5, absl::Milliseconds(2));
  Sample(Timeline::kBin);
  EXPECT_EQ(timeline_.bins()[0].ranks.size(), Timeline::kRanks);
}

}  // namespace
}  // namespace syncnorm::server
