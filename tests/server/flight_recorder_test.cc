// The ring of the last rounds.

#include "server/flight_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "tests/server/allocations.h"

namespace syncnorm::server {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::IsEmpty;

const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);
const std::string kLayer = "backbone.stage4.block2.downsample.bn";

RoundKey Key(uint64_t round) { return {3, round, kLayer, Direction::kBackward, 17}; }

const std::vector<Arrival> kArrivals = {{2, kStart}, {0, kStart + absl::Seconds(1)}};

void Complete(FlightRecorder* recorder, uint64_t round) {
  recorder->Ended(Key(round), kStart, kStart + absl::Seconds(1), kArrivals, {},
                  {absl::StatusCode::kOk, "", 100});
}

std::vector<uint64_t> Kept(const FlightRecorder& recorder) {
  std::vector<uint64_t> rounds;
  for (size_t age = 0; age < recorder.size(); ++age) {
    rounds.push_back(recorder.At(age).key.round);
  }
  return rounds;
}

TEST(FlightRecorderTest, KeepsTheLatestAndTellsThemFirst) {
  FlightRecorder recorder(3);
  EXPECT_THAT(Kept(recorder), IsEmpty());
  Complete(&recorder, 1);
  Complete(&recorder, 2);
  EXPECT_THAT(Kept(recorder), ElementsAre(2, 1));
  for (uint64_t round = 3; round <= 6; ++round) Complete(&recorder, round);
  EXPECT_THAT(Kept(recorder), ElementsAre(6, 5, 4));
  Complete(&recorder, 7);
  EXPECT_THAT(Kept(recorder), ElementsAre(7, 6, 5));
}

TEST(FlightRecorderTest, ARingOfOneKeepsTheLast) {
  FlightRecorder recorder(1);
  for (uint64_t round = 1; round <= 3; ++round) {
    Complete(&recorder, round);
    EXPECT_THAT(Kept(recorder), ElementsAre(round));
  }
}

TEST(FlightRecorderTest, TellsACompleteRoundsCourse) {
  FlightRecorder recorder(3);
  Complete(&recorder, 41);
  const FlightRecorder::Entry& entry = recorder.At(0);
  EXPECT_EQ(entry.key, Key(41));
  EXPECT_EQ(entry.opened, kStart);
  EXPECT_EQ(entry.ended, kStart + absl::Seconds(1));
  EXPECT_EQ(entry.arrivals, 2u);
  EXPECT_EQ(entry.first_rank, 2u);
  EXPECT_EQ(entry.last_rank, 0u);
  EXPECT_EQ(entry.wait, absl::Seconds(1));
  EXPECT_EQ(entry.code, absl::StatusCode::kOk);
  EXPECT_EQ(entry.bytes, 100u);
}

TEST(FlightRecorderTest, TellsAFailureAndWhomItLackedAndForgetsThemWithTheEntry) {
  FlightRecorder recorder(1);
  recorder.Ended(Key(1), kStart, kStart, {}, std::vector<uint32_t>{1, 5},
                 {absl::StatusCode::kAborted, "rank 1 is gone", 7});
  EXPECT_EQ(recorder.At(0).code, absl::StatusCode::kAborted);
  EXPECT_EQ(recorder.At(0).text, "rank 1 is gone");
  EXPECT_THAT(recorder.At(0).missing, ElementsAre(1, 5));
  EXPECT_EQ(recorder.At(0).missing_count, 2u);
  EXPECT_EQ(recorder.At(0).arrivals, 0u);
  Complete(&recorder, 2);
  EXPECT_EQ(recorder.At(0).code, absl::StatusCode::kOk);
  EXPECT_EQ(recorder.At(0).text, "");
  EXPECT_THAT(recorder.At(0).missing, IsEmpty());
  EXPECT_EQ(recorder.At(0).missing_count, 0u);
}

TEST(FlightRecorderTest, CutsLongTextsBetweenCharactersAndLongListsOfRanks) {
  FlightRecorder recorder(1);
  std::vector<uint32_t> ranks(1000);
  std::iota(ranks.begin(), ranks.end(), 0);
  // The limit falls within the two bytes of an u with two dots.
  std::string text(FlightRecorder::kTextBytes - 1, 'x');
  text += "\xC3\xBC and more";
  recorder.Ended(Key(1), kStart, kStart, {}, ranks, {absl::StatusCode::kAborted, text, 0});
  EXPECT_EQ(recorder.At(0).text.size(), FlightRecorder::kTextBytes - 1);
  EXPECT_THAT(recorder.At(0).text, EndsWith("x"));
  EXPECT_EQ(recorder.At(0).missing.size(), FlightRecorder::kListedRanks);
  EXPECT_EQ(recorder.At(0).missing_count, 1000u);
}

TEST(FlightRecorderTest, AllocatesNothingOnceItIsFull) {
  FlightRecorder recorder(8);
  for (uint64_t round = 1; round <= 8; ++round) Complete(&recorder, round);
  const RoundKey key = Key(9);
  const uint64_t before = Allocations();
  for (int i = 0; i < 20; ++i) {
    recorder.Ended(key, kStart, kStart, kArrivals, {}, {absl::StatusCode::kOk, "", 100});
  }
  EXPECT_EQ(Allocations(), before);
}

}  // namespace
}  // namespace syncnorm::server
