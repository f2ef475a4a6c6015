// Who waits for whom, counted.

#include "server/lateness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/allocations.h"

namespace syncnorm::server {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

struct Came {
  uint32_t rank;
  absl::Duration after;
};

std::vector<Arrival> Arrivals(const std::vector<Came>& came) {
  std::vector<Arrival> arrivals;
  for (const Came& one : came) arrivals.push_back({one.rank, kStart + one.after});
  return arrivals;
}

// In the order of arrival: rank 1, rank 0 after 2 ms, rank 2 after `late`.
std::vector<Arrival> Three(absl::Duration late) {
  return Arrivals(
      {{1, absl::ZeroDuration()}, {0, absl::Milliseconds(2)}, {2, absl::Milliseconds(2) + late}});
}

TEST(LatenessTest, SumsWhatEachRankCameAfterTheFirst) {
  Lateness lateness(10);
  lateness.Add("bn1", Direction::kForward, Three(absl::Milliseconds(1)));
  lateness.Add("bn1", Direction::kForward, Three(absl::Milliseconds(5)));
  EXPECT_EQ(lateness.rank(1).late.sum(), absl::ZeroDuration());
  EXPECT_EQ(lateness.rank(0).late.sum(), absl::Milliseconds(4));
  EXPECT_EQ(lateness.rank(0).max, absl::Milliseconds(2));
  EXPECT_EQ(lateness.rank(2).late.sum(), absl::Milliseconds(10));
  EXPECT_EQ(lateness.rank(2).max, absl::Milliseconds(7));
  EXPECT_EQ(lateness.rank(2).late.count(), 2u);
  EXPECT_EQ(lateness.rank(0).last, 0u);
  EXPECT_EQ(lateness.rank(2).last, 2u);
}

TEST(LatenessTest, TellsALayersDirectionsApart) {
  Lateness lateness(10);
  lateness.Add("bn1", Direction::kForward, Three(absl::Milliseconds(1)));
  lateness.Add("bn1", Direction::kForward, Three(absl::Milliseconds(3)));
  lateness.Add("bn1", Direction::kBackward,
               Arrivals({{2, absl::ZeroDuration()}, {0, absl::Milliseconds(9)}}));
  ASSERT_EQ(lateness.layers().size(), 2u);
  const Lateness::Layer& forward = lateness.layers()[0];
  EXPECT_EQ(forward.name, "bn1");
  EXPECT_EQ(forward.direction, Direction::kForward);
  EXPECT_EQ(forward.rounds, 2u);
  EXPECT_EQ(forward.wait, absl::Milliseconds(8));
  EXPECT_EQ(forward.max, absl::Milliseconds(5));
  EXPECT_THAT(forward.last, ElementsAre(0, 0, 2));
  const Lateness::Layer& backward = lateness.layers()[1];
  EXPECT_EQ(backward.direction, Direction::kBackward);
  EXPECT_EQ(backward.wait, absl::Milliseconds(9));
  EXPECT_THAT(backward.last, ElementsAre(1));
}

TEST(LatenessTest, EveryBoundIsTheLastOfItsBucket) {
  for (size_t i = 0; i < LatenessHistogram::kBounds; ++i) {
    Lateness lateness(10);
    const absl::Duration bound = LatenessHistogram::Bound(i);
    lateness.Add("bn", Direction::kForward, Arrivals({{0, absl::ZeroDuration()}, {1, bound}}));
    EXPECT_EQ(lateness.rank(1).late.buckets()[i], 1u) << bound;
    lateness.Add("bn", Direction::kForward,
                 Arrivals({{0, absl::ZeroDuration()}, {1, bound + absl::Nanoseconds(1)}}));
    EXPECT_EQ(lateness.rank(1).late.buckets()[i + 1], 1u) << bound;
    const auto& histogram = lateness.rank(1).late.buckets();
    EXPECT_EQ(std::accumulate(histogram.begin(), histogram.end(), uint64_t{0}), 2u);
  }
}

TEST(LatenessTest, LayersBeyondTheLimitAreCountedTogetherAndToldOnce) {
  Lateness lateness(2);
  const std::vector<Arrival> arrivals = Three(absl::Milliseconds(1));
  EXPECT_FALSE(lateness.Add("a", Direction::kForward, arrivals));
  EXPECT_FALSE(lateness.Add("a", Direction::kBackward, arrivals));
  EXPECT_TRUE(lateness.Add("b", Direction::kForward, arrivals));
  EXPECT_FALSE(lateness.Add("c", Direction::kForward, arrivals));
  EXPECT_FALSE(lateness.Add("a", Direction::kForward, arrivals));
  EXPECT_EQ(lateness.layers().size(), 2u);
  EXPECT_EQ(lateness.layers()[0].rounds, 2u);
  EXPECT_EQ(lateness.others().rounds, 2u);
  EXPECT_EQ(lateness.others().wait, absl::Milliseconds(6));
  EXPECT_THAT(lateness.others().last, ElementsAre(0, 0, 2));
}

TEST(LatenessTest, AMemberAloneWaitsForNobody) {
  Lateness lateness(10);
  lateness.Add("bn", Direction::kForward, Arrivals({{0, absl::ZeroDuration()}}));
  lateness.Add("bn", Direction::kForward, {});
  EXPECT_EQ(lateness.rank(0).late.count(), 0u);
  EXPECT_EQ(lateness.rank(0).last, 0u);
  EXPECT_THAT(lateness.layers(), IsEmpty());
}

TEST(LatenessTest, RanksThatARoundDidNotExpectStayAsTheyAre) {
  Lateness lateness(10);
  lateness.Add("bn", Direction::kForward,
               Arrivals({{7, absl::ZeroDuration()}, {3, absl::Milliseconds(1)}}));
  EXPECT_EQ(lateness.rank(5).late.count(), 0u);
  EXPECT_EQ(lateness.rank(7).late.count(), 1u);
  EXPECT_EQ(lateness.rank(4095).late.count(), 0u);
}

TEST(LatenessTest, CountsTheDeadlinesThatARankMissed) {
  Lateness lateness(10);
  lateness.Missed(std::vector<uint32_t>{1, 3});
  lateness.Missed(std::vector<uint32_t>{3});
  EXPECT_EQ(lateness.rank(0).missed, 0u);
  EXPECT_EQ(lateness.rank(1).missed, 1u);
  EXPECT_EQ(lateness.rank(3).missed, 2u);
  EXPECT_EQ(lateness.rank(3).late.count(), 0u);
}

TEST(LatenessTest, AllocatesNothingForALayerThatItKnows) {
  Lateness lateness(100);
  std::vector<std::string> layers;
  for (int i = 0; i < 50; ++i) layers.push_back(absl::StrCat("backbone.stage4.block.", i, ".bn"));
  const std::vector<Arrival> arrivals = Three(absl::Milliseconds(1));
  for (const std::string& layer : layers) lateness.Add(layer, Direction::kForward, arrivals);
  const uint64_t before = Allocations();
  for (const std::string& layer : layers) lateness.Add(layer, Direction::kForward, arrivals);
  EXPECT_EQ(Allocations(), before);
}

}  // namespace
}  // namespace syncnorm::server
