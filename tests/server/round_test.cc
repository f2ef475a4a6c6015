#include "server/round.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

class RoundTest : public testing::Test {
 protected:
  RoundTest() : order_({"h0", "h1", "h0", "h1"}) {}

  Round::Added Add(Round* round, uint32_t rank, Sent sent = Sent()) {
    sent.value = 1 + rank;
    wire::Contribution contribution = Make(sent, 1);
    return round->Add(rank, &contribution);
  }
  Round Open(const Sent& first = Sent()) const {
    return Round(order_, std::vector<bool>(order_.members(), true), Make(first, 1), 1,
                 absl::UnixEpoch());
  }

  const FoldOrder order_;
};

TEST_F(RoundTest, CompletesWhenTheLastMissingWorkerAdds) {
  Round round = Open();
  EXPECT_EQ(Add(&round, 2), Round::Added::kWaiting);
  EXPECT_EQ(Add(&round, 0), Round::Added::kWaiting);
  EXPECT_EQ(Add(&round, 3), Round::Added::kWaiting);
  EXPECT_EQ(round.missing(), std::vector<uint32_t>{1});
  EXPECT_EQ(Add(&round, 1), Round::Added::kLast);
  const Moments total = round.Total();
  EXPECT_EQ(total.count, 40u);
  EXPECT_EQ(total.values, (std::vector<double>{10, 10}));
}

TEST_F(RoundTest, GivesTheSameBytesInAllOrdersOfArrival) {
  std::vector<uint32_t> arrival = {0, 1, 2, 3};
  Moments first;
  do {
    Round round = Open();
    for (const uint32_t rank : arrival) {
      Sent sent;
      wire::Contribution contribution = Make(sent, 1);
      contribution.moments.values = {1.0 / (3 + rank), 1e16 / (1 + rank)};
      round.Add(rank, &contribution);
    }
    const Moments total = round.Total();
    if (first.values.empty()) first = total;
    EXPECT_EQ(total, first);
  } while (std::next_permutation(arrival.begin(), arrival.end()));
}

TEST_F(RoundTest, CountsARepeatOnce) {
  Round round = Open();
  EXPECT_EQ(Add(&round, 0), Round::Added::kWaiting);
  EXPECT_EQ(Add(&round, 0), Round::Added::kRepeat);
  EXPECT_EQ(round.missing(), (std::vector<uint32_t>{1, 2, 3}));
}

TEST_F(RoundTest, TellsAChangedContributionFromARepeat) {
  Round round = Open();
  Add(&round, 0);
  EXPECT_EQ(Add(&round, 0, {.count = 11}), Round::Added::kChanged);
  EXPECT_EQ(Add(&round, 0, {.layer = "bn2"}), Round::Added::kChanged);
  wire::Contribution negative_zero = Make({.value = 0}, 1);
  Round zeros = Open();
  zeros.Add(0, &negative_zero);
  negative_zero = Make({.value = -0.0}, 1);
  EXPECT_EQ(zeros.Add(0, &negative_zero), Round::Added::kChanged);
}

TEST_F(RoundTest, HoldsEveryFieldOfTheFingerprintAgainstTheFirst) {
  const std::vector<Sent> others = {
      {.layer = "bn2"},
      {.direction = Direction::kBackward},
      {.step = 2},
      {.dtype = DType::kF16},
      {.dtype = std::nullopt},
      {.precision = Precision::kF32},
      {.rows = 2},
      {.channels = 3},
      {.rows = 2, .channels = 1},
  };
  for (const Sent& other : others) {
    Round round = Open();
    Add(&round, 0);
    EXPECT_EQ(Add(&round, 1, other), Round::Added::kMismatch);
  }
  Round kinds = Open({.rows = 2});
  Add(&kinds, 0, {.rows = 2});
  EXPECT_EQ(Add(&kinds, 1, {.kind = MomentKind::kMeanM2, .rows = 2}), Round::Added::kMismatch);
}

TEST_F(RoundTest, RefusesACountThatOverflowsTheSum) {
  Round round = Open();
  Add(&round, 0, {.count = std::numeric_limits<uint64_t>::max() - 5});
  EXPECT_EQ(Add(&round, 1, {.count = 6}), Round::Added::kOverflow);
  EXPECT_EQ(Add(&round, 1, {.count = 5}), Round::Added::kWaiting);
}

TEST_F(RoundTest, CompletesWhenTheLastMissingWorkerIsExcused) {
  Round round = Open();
  Add(&round, 0);
  Add(&round, 3);
  EXPECT_FALSE(round.Excuse(1));
  EXPECT_EQ(round.missing(), std::vector<uint32_t>{2});
  EXPECT_TRUE(round.Excuse(2));
  const Moments total = round.Total();
  EXPECT_EQ(total.count, 20u);
  EXPECT_EQ(total.values, (std::vector<double>{5, 5}));
  EXPECT_EQ(round.contributed(), (std::vector<uint32_t>{0, 3}));
}

TEST_F(RoundTest, CountsWhatAWorkerContributedBeforeItWasExcused) {
  Round round = Open();
  for (const uint32_t rank : {0, 1, 2}) Add(&round, rank);
  EXPECT_FALSE(round.Excuse(1));
  EXPECT_TRUE(round.expects(1));
  EXPECT_TRUE(round.Excuse(3));
  EXPECT_FALSE(round.Excuse(3)) << "only once";
  EXPECT_EQ(round.Total().count, 30u);
}

TEST_F(RoundTest, WaitsOnlyForThoseThatTakePartWhenItOpens) {
  Round round(order_, {true, false, false, true}, Make(Sent(), 1), 1, absl::UnixEpoch());
  EXPECT_EQ(round.missing(), (std::vector<uint32_t>{0, 3}));
  EXPECT_FALSE(round.Excuse(1));
  Add(&round, 3);
  EXPECT_EQ(Add(&round, 0), Round::Added::kLast);
  EXPECT_EQ(round.Total().count, 20u);
}

TEST_F(RoundTest, AContributionWithoutItsValuesIsCountedAsCome) {
  Round round = Open();
  wire::Contribution bad = Make({.value = NAN}, 1);
  EXPECT_EQ(round.AddWithoutValues(0, bad), Round::Added::kWaiting);
  EXPECT_EQ(round.AddWithoutValues(0, bad), Round::Added::kRepeat);
  for (const uint32_t rank : {1, 2, 3}) Add(&round, rank);
  const Moments total = round.Total();
  EXPECT_EQ(total.count, 30u);
  EXPECT_EQ(total.values, (std::vector<double>{9, 9}));
}

TEST_F(RoundTest, OfNoValuesTheTotalIsZeros) {
  Round round = Open();
  wire::Contribution bad = Make({.value = NAN}, 1);
  for (const uint32_t rank : {0, 1, 2, 3}) round.AddWithoutValues(rank, bad);
  const Moments total = round.Total();
  EXPECT_EQ(total.count, 0u);
  EXPECT_EQ(total.kind, MomentKind::kSums);
  EXPECT_EQ(total.values, (std::vector<double>{0, 0}));
}

TEST_F(RoundTest, HoldsNoValuesOnceItEnded) {
  Round round = Open();
  Add(&round, 3);
  EXPECT_GT(round.open_bytes(), 0u);
  round.Fail(std::make_shared<const std::string>("why"));
  EXPECT_EQ(round.open_bytes(), 0u);
  EXPECT_EQ(round.state(), Round::State::kFailed);
  EXPECT_EQ(*round.answer(), "why");
  EXPECT_TRUE(round.has(3));
}

}  // namespace
}  // namespace syncnorm::server
