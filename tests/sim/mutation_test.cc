// The simulator is held itself: it finds each of a dozen planted bugs, and a seed is one run.
#include "tests/sim/mutation.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/sim/world.h"

namespace syncnorm::sim {
namespace {

// Seeds within which a planted bug must be found.  The slowest needs a third of them.
constexpr uint64_t kSeeds = 300;
// Rounds of each: enough for a bug of one answer in a thousand.
constexpr uint64_t kRounds = 600;

class MutationTest : public ::testing::TestWithParam<MutationName> {};

TEST_P(MutationTest, IsFound) {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const RunResult run = RunSeed(seed, kRounds, Log::Level::kOff, GetParam().mutation);
    if (!run.violation.has_value()) continue;
    RecordProperty("seed", static_cast<int>(seed));
    RecordProperty("invariant", run.violation->invariant);
    return;
  }
  FAIL() << "not found by " << kSeeds << " seeds";
}

INSTANTIATE_TEST_SUITE_P(All, MutationTest, ::testing::ValuesIn(Mutations()),
                         [](const ::testing::TestParamInfo<MutationName>& info) {
                           return std::string(info.param.name);
                         });

TEST(WorldTest, ASeedIsTheSameRunEachTime) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const RunResult first = RunSeed(seed, kRounds, Log::Level::kOff, Mutation::kNone);
    // Whether it is logged changes nothing: that is how a failure is told.
    const RunResult second = RunSeed(seed, kRounds, Log::Level::kKeep, Mutation::kNone);
    EXPECT_EQ(first.digest, second.digest) << "seed " << seed;
    EXPECT_EQ(first.events, second.events) << "seed " << seed;
    EXPECT_EQ(first.tally.rounds, second.tally.rounds) << "seed " << seed;
    EXPECT_EQ(first.lasted, second.lasted) << "seed " << seed;
  }
}

TEST(WorldTest, SeedsDiffer) {
  const RunResult one = RunSeed(1, kRounds, Log::Level::kOff, Mutation::kNone);
  const RunResult other = RunSeed(2, kRounds, Log::Level::kOff, Mutation::kNone);
  EXPECT_NE(one.digest, other.digest);
}

}  // namespace
}  // namespace syncnorm::sim
