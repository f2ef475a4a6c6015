#include "server/history.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

RoundKey Key(uint64_t round, const std::string& layer) {
  return {1, round, layer, Direction::kForward, 1};
}

Fingerprint Of(const std::string& layer) {
  wire::Contribution contribution;
  contribution.key = Key(1, layer);
  return Fingerprint(contribution);
}

TEST(HistoryTest, KnowsWhichLayerFollowsWhich) {
  History history;
  EXPECT_EQ(history.last(), nullptr);
  history.Add(Key(1, "a"));
  history.Add(Key(2, "b"));
  history.Add(Key(4, "c"));  // round 3 failed
  EXPECT_EQ(history.last()->layer, "c");
  EXPECT_TRUE(history.Follows(Of("a"), Of("b")));
  EXPECT_FALSE(history.Follows(Of("b"), Of("a")));
  EXPECT_FALSE(history.Follows(Of("b"), Of("c")));
}

TEST(HistoryTest, KeepsOnlyTheLatestRounds) {
  History history;
  for (uint64_t round = 1; round <= 3 * History::kRounds; ++round) {
    history.Add(Key(round, absl::StrCat("layer", round)));
  }
  EXPECT_EQ(history.Find(2 * History::kRounds), nullptr);
  ASSERT_NE(history.Find(2 * History::kRounds + 1), nullptr);
  EXPECT_EQ(history.last()->round, 3 * History::kRounds);
  EXPECT_TRUE(history.Follows(Of("layer1535"), Of("layer1536")));
  EXPECT_FALSE(history.Follows(Of("layer1"), Of("layer2")));
}

}  // namespace
}  // namespace syncnorm::server
