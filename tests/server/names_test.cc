#include "server/names.h"

#include <gtest/gtest.h>

#include <vector>

namespace syncnorm::server {
namespace {

TEST(NamesTest, RanksAreListedCompactly) {
  EXPECT_EQ(Ranks({2}), "rank 2");
  EXPECT_EQ(Ranks({0, 1}), "ranks 0,1");
  EXPECT_EQ(Ranks({0, 1, 2, 3, 7}), "ranks 0-3,7");
  EXPECT_EQ(Ranks({0, 2, 4, 5, 6}), "ranks 0,2,4-6");
}

TEST(NamesTest, AListOfManyPiecesIsCut) {
  std::vector<uint32_t> even;
  for (uint32_t rank = 0; rank < 4096; rank += 2) even.push_back(rank);
  const std::string text = Ranks(even);
  EXPECT_LT(text.size(), 300u);
  EXPECT_NE(text.find("(2048 in all)"), std::string::npos) << text;
}

TEST(NamesTest, AWorkerIsNamedByWhatIsKnown) {
  EXPECT_EQ(Worker(3, "h3", 77), "rank 3 (host h3, pid 77)");
  EXPECT_EQ(Worker(3, "h3", 0), "rank 3 (host h3)");
  EXPECT_EQ(Worker(3, "", 77), "rank 3 (pid 77)");
  EXPECT_EQ(Worker(3, "", 0), "rank 3");
}

TEST(NamesTest, TimesAreInSeconds) { EXPECT_EQ(InSeconds(absl::Milliseconds(60040)), "60.0 s"); }

}  // namespace
}  // namespace syncnorm::server
