#include "server/round.h"

#include <gtest/gtest.h>

#include <algorithm>
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
