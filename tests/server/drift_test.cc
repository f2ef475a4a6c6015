// How far members' own statistics are from the group's.

#include "server/drift.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

wire::Contribution Opens(const std::string& layer) {
  wire::Contribution first;
  first.key = {1, 1, layer, Direction::kForward, 1};
  first.dtype = DType::kF32;
  first.moments = Moments::MeanM2(1, Precision::kF64);
  return first;
}

Moments MeanM2(uint64_t count, std::vector<double> mean, std::vector<double> m2) {
  Moments moments = Moments::MeanM2(static_cast<int64_t>(mean.size()), Precision::kF64);
  moments.count = count;
  std::copy(mean.begin(), mean.end(), moments.row(0).begin());
  std::copy(m2.begin(), m2.end(), moments.row(1).begin());
  return moments;
}

Moments Squares(uint64_t count, std::vector<double> sums) {
  Moments moments = Moments::Sums(1, static_cast<int64_t>(sums.size()), Precision::kF64);
  moments.count = count;
  moments.values = std::move(sums);
  return moments;
}

// Measures one round of these, in the order of the ranks.
Drift::Entry Measured(const std::vector<Moments>& members) {
  Drift drift(10);
  drift.Begin(kStart, 7);
  Moments total = members[0];
  for (uint32_t rank = 0; rank < members.size(); ++rank) {
    drift.Keep(rank, members[rank]);
    if (rank > 0) {
      EXPECT_TRUE(Fold(members[rank], &total).ok());
    }
  }
  drift.Measure(kStart, "bn", total);
  return *drift.Find("bn");
}

TEST(DriftTest, MembersThatAreAlikeHaveNone) {
  const Moments same = MeanM2(4, {3, -1}, {8, 2});
  const Drift::Entry entry = Measured({same, same});
  EXPECT_EQ(entry.shift, 0);
  EXPECT_EQ(entry.spread, 0);
}

// By hand: {1, 3} and {5, 7}: mean 4, variance (9 + 1 + 1 + 9) / 4 = 5; both means are 2 away, both
// variances are 1.
TEST(DriftTest, IsInUnitsOfTheGroupsDeviation) {
  const Drift::Entry entry = Measured({MeanM2(2, {2}, {2}), MeanM2(2, {6}, {2})});
  EXPECT_NEAR(*entry.shift, 2 / std::sqrt(5), 1e-15);
  EXPECT_NEAR(entry.spread, std::log(std::sqrt(5)), 1e-15);
}

TEST(DriftTest, NamesTheMemberThatIsTheFarthestAway) {
  // Means 0, 0, 9: the group's is 3.
  const Drift::Entry entry =
      Measured({MeanM2(2, {0}, {2}), MeanM2(2, {0}, {2}), MeanM2(2, {9}, {2})});
  EXPECT_EQ(entry.rank, 2u);
}

TEST(DriftTest, OfSumsOfSquaresIsTheRatioOfTheQuadraticMeans) {
  // Mean squares 1 and 4: together 2.5.
  const Drift::Entry entry = Measured({Squares(10, {10}), Squares(10, {40})});
  EXPECT_FALSE(entry.shift.has_value());
  const double one = 0.5 * std::log(1 / 2.5), two = 0.5 * std::log(4 / 2.5);
  EXPECT_NEAR(entry.spread, std::sqrt((one * one + two * two) / 2), 1e-15);
  EXPECT_EQ(entry.rank, 0u);
}

TEST(DriftTest, LeavesOutWhatHasNoDeviation) {
  // Channel 0 is constant everywhere; channel 1 is constant in member 0; member 2 has nothing.
  const Drift::Entry entry =
      Measured({MeanM2(2, {5, 2}, {0, 0}), MeanM2(2, {5, 6}, {0, 8}), MeanM2(0, {0, 0}, {0, 0})});
  // Channel 1: mean 4, M2 = 8 + 4 x (2 x 2 / 4)... = 8 + 16 = 24, variance 6; the means are 2 away.
  EXPECT_NEAR(*entry.shift, 2 / std::sqrt(6), 1e-15);
  EXPECT_NEAR(entry.spread, -0.5 * std::log(4.0 / 6), 1e-15);
}

TEST(DriftTest, NotANumberIsNoDrift) {
  const Drift::Entry entry = Measured({MeanM2(2, {NAN}, {NAN}), MeanM2(2, {1}, {2})});
  EXPECT_EQ(entry.shift, 0);
  EXPECT_EQ(entry.spread, 0);
}

TEST(DriftTest, OfWideLayersTheFirstChannelsAreMeasured) {
  std::vector<double> mean(Drift::kChannels + 1, 0), m2(Drift::kChannels + 1, 2);
  const Moments one = MeanM2(2, mean, m2);
  mean.back() = 100;
  EXPECT_EQ(Measured({one, MeanM2(2, mean, m2)}).shift, 0);
  mean.front() = 100;
  EXPECT_GT(*Measured({one, MeanM2(2, mean, m2)}).shift, 0.05);
}

TEST(DriftTest, ALayerIsMeasuredNowAndThen) {
  Drift drift(10);
  ASSERT_TRUE(drift.Wants(kStart, Opens("a")));
  drift.Begin(kStart, 1);
  EXPECT_TRUE(drift.Measures(1));
  EXPECT_FALSE(drift.Measures(2));
  EXPECT_FALSE(drift.Wants(kStart + absl::Seconds(1), Opens("b"))) << "one is under way";
  drift.Measure(kStart, "a", MeanM2(2, {0}, {2}));
  EXPECT_FALSE(drift.Wants(kStart + Drift::kBetween / 2, Opens("b")));
  EXPECT_TRUE(drift.Wants(kStart + Drift::kBetween, Opens("b")));
  EXPECT_FALSE(drift.Wants(kStart + Drift::kBetween, Opens("a")));
  EXPECT_TRUE(drift.Wants(kStart + Drift::kAgain, Opens("a")));
}

TEST(DriftTest, ARoundThatFailedIsForgotten) {
  Drift drift(10);
  drift.Begin(kStart, 1);
  drift.Keep(0, MeanM2(2, {7}, {2}));
  drift.Abandon();
  EXPECT_EQ(drift.Find("a"), nullptr);
  ASSERT_TRUE(drift.Wants(kStart + absl::Seconds(1), Opens("a")));
  drift.Begin(kStart + absl::Seconds(1), 2);
  const Moments one = MeanM2(2, {1}, {2});
  drift.Keep(0, one);
  drift.Measure(kStart + absl::Seconds(1), "a", one);
  EXPECT_EQ(drift.Find("a")->shift, 0);
}

TEST(DriftTest, OnlyStatisticsOfALayersInputAreMeasured) {
  Drift drift(10);
  wire::Contribution backward = Opens("a");
  backward.key.direction = Direction::kBackward;
  EXPECT_FALSE(drift.Wants(kStart, backward));
  wire::Contribution plain = Opens("a");
  plain.dtype.reset();
  EXPECT_FALSE(drift.Wants(kStart, plain));
  wire::Contribution sums = Opens("a");
  sums.moments = Moments::Sums(2, 1, Precision::kF64);
  EXPECT_FALSE(drift.Wants(kStart, sums));
  sums.moments = Moments::Sums(1, 1, Precision::kF64);
  EXPECT_TRUE(drift.Wants(kStart, sums));
}

TEST(DriftTest, KnowsNoMoreLayersThanItMay) {
  Drift drift(2);
  absl::Time now = kStart;
  for (int i = 0; i < 3; ++i, now += absl::Seconds(1)) {
    const std::string layer = absl::StrCat(i);
    if (!drift.Wants(now, Opens(layer))) continue;
    drift.Begin(now, 1);
    drift.Measure(now, layer, MeanM2(2, {0}, {2}));
  }
  EXPECT_NE(drift.Find("1"), nullptr);
  EXPECT_EQ(drift.Find("2"), nullptr);
  EXPECT_TRUE(drift.Wants(now + Drift::kAgain, Opens("0")));
}

}  // namespace
}  // namespace syncnorm::server
