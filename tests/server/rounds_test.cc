// The window of rounds, through a coordinator: what the members of a group see.

#include "server/rounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class RoundsTest : public testing::Test {
 protected:
  // All members contribute; their results are taken.
  void Finish(CoreWorld* world, const std::vector<StreamId>& streams, const Sent& sent) {
    for (const StreamId stream : streams) world->Contribute(stream, sent);
    for (const StreamId stream : streams) world->TakeResult(stream);
  }

  CoreWorld world_;
};

TEST_F(RoundsTest, AnswersAllMembersWithTheSameBytesWhenTheLastContributes) {
  const std::vector<StreamId> streams = world_.Form(3);
  world_.Contribute(streams[2], {.value = 3});
  world_.Contribute(streams[0], {.value = 1});
  EXPECT_TRUE(world_.Take(streams[0]).empty());
  world_.Contribute(streams[1], {.value = 2});
  const std::string bytes = world_.TakeBytes(streams[0]);
  EXPECT_EQ(world_.TakeBytes(streams[1]), bytes);
  const wire::Result result = world_.TakeResult(streams[2]);
  EXPECT_EQ(result.key, (RoundKey{1, 1, "bn1", Direction::kForward, 1}));
  EXPECT_EQ(result.moments.values, (std::vector<double>{6, 6}));
  EXPECT_EQ(result.moments.count, 30u);
}

TEST_F(RoundsTest, All24OrdersOfArrivalGiveTheSameBytesWhateverTheHosts) {
  for (const std::vector<std::string>& hosts :
       {std::vector<std::string>{"a", "a", "a", "a"}, std::vector<std::string>{"a", "b", "a", "b"},
        std::vector<std::string>{"a", "b", "c", "d"}}) {
    std::string expected;
    std::vector<uint32_t> arrival = {0, 1, 2, 3};
    do {
      CoreWorld world;
      std::vector<StreamId> streams;
      for (uint32_t rank = 0; rank < 4; ++rank) {
        wire::Join join = MakeJoin(rank, 4);
        join.host = hosts[rank];
        streams.push_back(world.Join(join));
      }
      for (const StreamId stream : streams) world.TakeJoined(stream);
      for (const uint32_t rank : arrival) {
        world.Contribute(streams[rank], {.precision = Precision::kF32,
                                         .channels = 64,
                                         .value = std::pow(-7.3, 2 * rank + 1) / 3});
      }
      const std::string bytes = world.TakeBytes(streams[3]);
      if (expected.empty()) expected = bytes;
      EXPECT_EQ(bytes, expected);
    } while (std::next_permutation(arrival.begin(), arrival.end()));
  }
}

TEST_F(RoundsTest, AnyNumberOfRoundsMayBeInFlight) {
  const std::vector<StreamId> streams = world_.Form(2);
  for (uint64_t round = 1; round <= 100; ++round) {
    world_.Contribute(streams[0], {.round = round, .layer = absl::StrCat("bn", round)});
  }
  EXPECT_EQ(world_.core().snapshot().open_rounds, 100u);
  for (uint64_t round = 1; round <= 100; ++round) {
    world_.Contribute(streams[1], {.round = round, .layer = absl::StrCat("bn", round)});
    EXPECT_EQ(world_.TakeResult(streams[1]).key.round, round);
  }
  EXPECT_EQ(world_.Take(streams[0]).size(), 100u);
  EXPECT_EQ(world_.core().snapshot().open_rounds, 0u);
}

TEST_F(RoundsTest, RoundsTheResultToItsPrecisionAndKeepsMeansInF64) {
  const std::vector<StreamId> streams = world_.Form(1);
  const double third = 1.0 / 3;
  world_.Contribute(streams[0], {.kind = MomentKind::kMeanM2,
                                 .precision = Precision::kF32,
                                 .rows = 2,
                                 .channels = 1,
                                 .value = third});
  const wire::Result result = world_.TakeResult(streams[0]);
  EXPECT_EQ(result.moments.values[0], third);
  EXPECT_EQ(result.moments.values[1], static_cast<double>(static_cast<float>(third)));
}

TEST_F(RoundsTest, NonFiniteValuesReachEveryMemberWherePropagated) {
  std::vector<StreamId> streams;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    wire::Join join = MakeJoin(rank, 2);
    join.non_finite = NonFinite::kPropagate;
    streams.push_back(world_.Join(join));
  }
  for (const StreamId stream : streams) world_.TakeJoined(stream);
  world_.Contribute(streams[0], {.value = std::numeric_limits<double>::quiet_NaN()});
  world_.Contribute(streams[1], {.value = 1});
  const std::string bytes = world_.TakeBytes(streams[0]);
  EXPECT_EQ(world_.TakeBytes(streams[1]), bytes);
  world_.Contribute(streams[0], {.round = 2, .value = std::numeric_limits<double>::infinity()});
  world_.Contribute(streams[1], {.round = 2, .value = 1});
  EXPECT_TRUE(std::isinf(world_.TakeResult(streams[0]).moments.values[0]));
}

TEST_F(RoundsTest, ARepeatGetsTheSameAnswerAgain) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {});
  world_.Contribute(streams[0], {});  // still open: one answer for both
  world_.Contribute(streams[1], {});
  const std::string bytes = world_.TakeBytes(streams[0]);
  world_.TakeBytes(streams[1]);
  world_.Contribute(streams[0], {});
  EXPECT_EQ(world_.TakeBytes(streams[0]), bytes);
  EXPECT_TRUE(world_.Take(streams[1]).empty());
  EXPECT_EQ(world_.core().snapshot().rounds.repeats, 2u);
  EXPECT_EQ(world_.core().snapshot().rounds.completed, 1u);
}

TEST_F(RoundsTest, AChangedRepeatFailsTheOpenRoundForAllNamingTheRank) {
  const std::vector<StreamId> streams = world_.Form(3);
  world_.Contribute(streams[0], {});
  world_.Contribute(streams[2], {});
  world_.Contribute(streams[2], {.value = 5});
  for (const StreamId stream : {streams[0], streams[2]}) {
    const Failure failure = world_.TakeFailure(stream);
    EXPECT_EQ(failure.code, absl::StatusCode::kAborted);
    EXPECT_EQ(failure.ranks, std::vector<uint32_t>{2});
    EXPECT_THAT(failure.text,
                StartsWith("group \"world\" epoch 1 round 1 layer bn1 (forward, step 1): rank 2 "
                           "(host h2, pid 102) sent it again with other contents (digest "));
  }
  world_.Contribute(streams[1], {});
  EXPECT_THAT(world_.TakeFailure(streams[1]).text, HasSubstr("rank 2 (host h2"));
}

TEST_F(RoundsTest, AChangedRepeatOfACompleteRoundEndsTheEpochForAll) {
  const std::vector<StreamId> streams = world_.Form(2);
  Finish(&world_, streams, {});
  world_.Contribute(streams[1], {.value = 5});
  for (const StreamId stream : streams) {
    const std::vector<CoreWorld::Got> got = world_.Take(stream);
    ASSERT_FALSE(got.empty());
    const Failure& failure = got.front().message.failure;
    EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
    EXPECT_THAT(failure.text,
                AllOf(HasSubstr("round 1 layer bn1 (forward, step 1): rank 1 (host h1"),
                      HasSubstr("other contents"), HasSubstr("after its result")));
  }
}

struct ShapeCase {
  Sent first;
  Sent other;
  std::string sent;
  std::string expected;
};

TEST_F(RoundsTest, AMismatchOfShapeNamesRanksValuesLayerAndStep) {
  const std::vector<ShapeCase> cases = {
      {{.channels = 64}, {.channels = 128}, "channels=128", "channels=64"},
      {{.rows = 2}, {.kind = MomentKind::kMeanM2, .rows = 2}, "kind=mean_m2", "kind=sums"},
      {{}, {.precision = Precision::kF32}, "precision=f32", "precision=f64"},
      {{}, {.dtype = DType::kBF16}, "dtype=bf16", "dtype=f32"},
      {{}, {.dtype = std::nullopt}, "dtype=none", "dtype=f32"},
      {{.rows = 1}, {.rows = 3}, "rows=3", "rows=1"},
      {{.channels = 4},
       {.dtype = DType::kF16, .channels = 8},
       "channels=8 dtype=f16",
       "channels=4 dtype=f32"},
  };
  for (const ShapeCase& c : cases) {
    CoreWorld world;
    const std::vector<StreamId> streams = world.Form(4);
    Finish(&world, streams, {.round = 1, .layer = "bn0"});
    Sent first = c.first;
    first.round = 2;
    first.step = 17;
    Sent other = c.other;
    other.round = 2;
    other.step = 17;
    world.Contribute(streams[0], first);
    world.Contribute(streams[3], other);
    for (const int rank : {0, 3}) {
      const Failure failure = world.TakeFailure(streams[rank]);
      EXPECT_EQ(failure.code, absl::StatusCode::kAborted);
      EXPECT_EQ(failure.key.round, 2u);
      EXPECT_EQ(failure.text,
                absl::StrCat("group \"world\" epoch 1 round 2 layer bn1 (forward, step 17): rank 3 "
                             "sent ",
                             c.sent, ", rank 0 sent ", c.expected, "; last common round 1 bn0"));
      EXPECT_EQ(failure.ranks, (std::vector<uint32_t>{0, 3}));
      EXPECT_EQ(failure.hosts, (std::vector<std::string>{"h0", "h3"}));
      EXPECT_EQ(failure.group, "world");
    }
    // The others, when they come, get the same bytes.
    world.Contribute(streams[1], first);
    world.Contribute(streams[2], other);
    EXPECT_EQ(world.TakeBytes(streams[1]), world.TakeBytes(streams[2]));
    // And the next round goes on.
    Finish(&world, streams, {.round = 3});
  }
}

TEST_F(RoundsTest, AMismatchOfOrderNamesBothLayersAndAllRanks) {
  const std::vector<StreamId> streams = world_.Form(3);
  Finish(&world_, streams, {.round = 1, .layer = "layer2.bn", .step = 17});
  world_.Contribute(streams[0], {.round = 2, .layer = "layer3.bn", .step = 17});
  world_.Contribute(streams[1], {.round = 2, .layer = "layer3.bn", .step = 17});
  world_.Contribute(streams[2], {.round = 2, .layer = "layer4.bn", .step = 17});
  const Failure failure = world_.TakeFailure(streams[0]);
  EXPECT_EQ(failure.text,
            "group \"world\" epoch 1 round 2: rank 2 sent layer4.bn (forward, step 17), ranks 0,1 "
            "sent layer3.bn (forward, step 17): the layers' order differs; last common round 1 "
            "layer2.bn");
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{2});
  EXPECT_EQ(world_.TakeFailure(streams[1]), failure);
  EXPECT_EQ(world_.TakeFailure(streams[2]), failure);
}

TEST_F(RoundsTest, ALayerThatFollowedBeforeIsTakenForASkippedOne) {
  const std::vector<StreamId> streams = world_.Form(3);
  uint64_t round = 0;
  for (const char* layer : {"a", "b", "c", "a"}) {
    Finish(&world_, streams, {.round = ++round, .layer = layer, .step = (round + 2) / 3});
  }
  world_.Contribute(streams[0], {.round = 5, .layer = "b", .step = 2});
  world_.Contribute(streams[1], {.round = 5, .layer = "b", .step = 2});
  world_.Contribute(streams[2], {.round = 5, .layer = "c", .step = 2});
  EXPECT_THAT(world_.TakeFailure(streams[0]).text, HasSubstr(": rank 2 seems to have skipped b;"));

  world_.Take(streams[1]);
  world_.Take(streams[2]);
  world_.Contribute(streams[0], {.round = 6, .layer = "c", .step = 2});
  world_.Contribute(streams[1], {.round = 6, .layer = "c", .step = 2});
  world_.Contribute(streams[2], {.round = 6, .layer = "b", .step = 2});
  EXPECT_THAT(world_.TakeFailure(streams[0]).text,
              HasSubstr(": ranks 0,1 seem to have skipped b;"));
}

TEST_F(RoundsTest, AMismatchOfStepsSaysWhoIsAhead) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {.step = 17});
  world_.Contribute(streams[1], {.step = 18});
  EXPECT_THAT(world_.TakeFailure(streams[0]).text,
              AllOf(HasSubstr("rank 1 sent bn1 (forward, step 18), rank 0 sent bn1 (forward, step "
                              "17)"),
                    HasSubstr("rank 1 seems to have skipped step 17 of this layer, or rank 0 to "
                              "have repeated it"),
                    HasSubstr("no round was common before")));
  world_.Take(streams[1]);
  world_.Contribute(streams[0], {.round = 2, .layer = "bn7", .step = 17});
  world_.Contribute(streams[1], {.round = 2, .layer = "bn1", .step = 18});
  EXPECT_THAT(world_.TakeFailure(streams[0]).text,
              HasSubstr("rank 1 seems to have skipped the rest of step 17"));
}

TEST_F(RoundsTest, AMismatchOfDirectionsIsNamed) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {.direction = Direction::kForward});
  world_.Contribute(streams[1], {.direction = Direction::kBackward});
  EXPECT_THAT(
      world_.TakeFailure(streams[0]).text,
      AllOf(HasSubstr("rank 1 sent bn1 (backward, step 1)"),
            HasSubstr("rank 0 sent bn1 (forward, step 1)"), HasSubstr("the directions differ")));
}

TEST_F(RoundsTest, ACountOverflowNamesTheRank) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {.count = std::numeric_limits<uint64_t>::max()});
  world_.Contribute(streams[1], {.count = 1});
  const Failure failure = world_.TakeFailure(streams[0]);
  EXPECT_EQ(failure.code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
  EXPECT_THAT(failure.text, AllOf(HasSubstr("rank 1 (host h1, pid 101) sent count=1,"),
                                  HasSubstr("overflows 64 bits")));
  EXPECT_EQ(world_.TakeFailure(streams[1]), failure);
}

TEST_F(RoundsTest, TheDeadlineNamesWhoIsMissingAndWhenItWasLastHeard) {
  const std::vector<StreamId> streams = world_.Form(4);
  world_.Pass(absl::Seconds(5));
  world_.Contribute(streams[0], {});
  world_.Contribute(streams[1], {});
  world_.Pass(absl::Seconds(10));
  world_.Contribute(streams[2], {});
  EXPECT_EQ(world_.core().NextDeadline(), world_.now() + absl::Seconds(50));
  world_.Pass(absl::Seconds(49.9));
  EXPECT_TRUE(world_.Take(streams[0]).empty());
  world_.Pass(absl::Seconds(0.1));
  const Failure failure = world_.TakeFailure(streams[0]);
  EXPECT_EQ(failure.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{3});
  EXPECT_EQ(failure.hosts, std::vector<std::string>{"h3"});
  EXPECT_EQ(failure.text,
            "group \"world\" epoch 1 round 1 layer bn1 (forward, step 1): rank 3 (host h3, pid "
            "103) last heard 65.0 s ago did not contribute within 60.0 s; ranks 0-2 did");
  EXPECT_EQ(world_.TakeFailure(streams[1]), failure);
  EXPECT_EQ(world_.TakeFailure(streams[2]), failure);
  EXPECT_TRUE(world_.Take(streams[3]).empty());

  // The late one gets the same, and the epoch goes on.
  world_.Contribute(streams[3], {});
  EXPECT_EQ(world_.TakeFailure(streams[3]), failure);
  Finish(&world_, streams, {.round = 2});
}

TEST_F(RoundsTest, EveryRoundInFlightHasItsOwnDeadline) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {.round = 1});
  world_.Pass(absl::Seconds(30));
  world_.Contribute(streams[0], {.round = 2});
  world_.Pass(absl::Seconds(30));
  EXPECT_EQ(world_.TakeFailure(streams[0]).key.round, 1u);
  EXPECT_EQ(world_.core().NextDeadline(), world_.now() + absl::Seconds(30));
  world_.Pass(absl::Seconds(30));
  EXPECT_EQ(world_.TakeFailure(streams[0]).key.round, 2u);
}

TEST_F(RoundsTest, ARoundOlderThanTheKeptOnesIsRefused) {
  Settings settings;
  settings.limits.kept_rounds = 4;
  CoreWorld world(settings);
  const std::vector<StreamId> streams = world.Form(2);
  for (uint64_t round = 1; round <= 12; ++round) Finish(&world, streams, {.round = round});
  EXPECT_EQ(world.core().snapshot().kept_rounds, 4u);
  world.Contribute(streams[0], {.round = 5});
  const Failure failure = world.TakeFailure(streams[0]);
  EXPECT_EQ(failure.code, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(failure.text, HasSubstr("round 5 < oldest kept 9"));
  world.Contribute(streams[0], {.round = 9});
  EXPECT_EQ(world.TakeResult(streams[0]).key.round, 9u);
}

TEST_F(RoundsTest, AJumpAheadEndsTheEpochAsDesync) {
  const std::vector<StreamId> streams = world_.Form(3);
  for (uint64_t round = 1; round <= 9; ++round) Finish(&world_, streams, {.round = round});
  world_.Contribute(streams[0], {.round = 10});
  world_.Contribute(streams[1], {.round = 12});
  const std::vector<CoreWorld::Got> waiting = world_.Take(streams[0]);
  ASSERT_EQ(waiting.size(), 2u);
  EXPECT_EQ(waiting[0].message.failure.key.round, 10u);
  EXPECT_EQ(waiting[1].message.failure.key.round, 0u);
  EXPECT_EQ(waiting[1].message.failure.ranks, std::vector<uint32_t>{1});
  EXPECT_THAT(waiting[1].message.failure.text,
              AllOf(StartsWith("group \"world\" epoch 1: desync: rank 1 (host h1, pid 101) is at "
                               "round 12, its last was round 9 layer bn1 (forward, step 1)"),
                    HasSubstr("epoch 1 is closed")));
  const std::vector<CoreWorld::Got> jumper = world_.Take(streams[1]);
  ASSERT_EQ(jumper.size(), 2u);
  EXPECT_EQ(jumper[0].message.failure.key.round, 0u);
  EXPECT_EQ(jumper[1].message.failure.key.round, 12u);
  EXPECT_EQ(world_.TakeFailure(streams[2]).key.round, 0u);
}

TEST_F(RoundsTest, AContributionOfAnotherEpochIsRefusedToItsSender) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {.epoch = 77});
  const Failure failure = world_.TakeFailure(streams[0]);
  EXPECT_EQ(failure.code, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(failure.text, HasSubstr("epoch 77"));
  Finish(&world_, streams, {});
}

TEST_F(RoundsTest, LimitsOfAContributionFailItsRoundOnly) {
  Settings settings;
  settings.limits.values = 10;
  settings.limits.layer_name_bytes = 5;
  CoreWorld world(settings);
  const std::vector<StreamId> streams = world.Form(2);
  world.Contribute(streams[0], {.round = 1, .channels = 11});
  Failure failure = world.TakeFailure(streams[0]);
  EXPECT_EQ(failure.code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(failure.text,
              HasSubstr("rank 0 (host h0, pid 100) sent 1 x 11 values, more than 10"));
  world.Contribute(streams[1], {.round = 1, .channels = 11});
  EXPECT_EQ(world.TakeFailure(streams[1]), failure);

  world.Contribute(streams[0], {.round = 2, .layer = "too-long"});
  failure = world.TakeFailure(streams[0]);
  EXPECT_EQ(failure.code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(failure.text, HasSubstr("a layer's name of 8 bytes, more than 5"));
  world.Contribute(streams[1], {.round = 2, .layer = "too-long"});
  world.Take(streams[1]);
  Finish(&world, streams, {.round = 3});
}

TEST_F(RoundsTest, OpenRoundsAndTheirBytesAreLimited) {
  Settings settings;
  settings.limits.open_rounds = 3;
  CoreWorld world(settings);
  std::vector<StreamId> streams = world.Form(2);
  for (uint64_t round = 1; round <= 4; ++round) world.Contribute(streams[0], {.round = round});
  Failure failure = world.TakeFailure(streams[0]);
  EXPECT_EQ(failure.key.round, 4u);
  EXPECT_EQ(failure.code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(failure.text, HasSubstr("more than 3 rounds are open; rank 1 of round 1 behind"));
  for (uint64_t round = 1; round <= 4; ++round) world.Contribute(streams[1], {.round = round});
  EXPECT_EQ(world.Take(streams[0]).size(), 3u);
  EXPECT_EQ(world.Take(streams[1]).size(), 4u);

  settings.limits.open_rounds = 100;
  settings.limits.open_bytes = 100;
  CoreWorld small(settings);
  streams = small.Form(2);
  small.Contribute(streams[0], {.round = 1, .channels = 10});
  small.Contribute(streams[0], {.round = 2, .channels = 10});
  failure = small.TakeFailure(streams[0]);
  EXPECT_EQ(failure.key.round, 2u);
  EXPECT_EQ(failure.code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(failure.text, HasSubstr("80 bytes"));
  EXPECT_EQ(small.core().snapshot().open_bytes, 80u);
}

TEST_F(RoundsTest, KeptBytesAreLimitedButTwoRoundsAreAlwaysKept) {
  Settings settings;
  settings.limits.kept_bytes = 1;
  CoreWorld world(settings);
  const std::vector<StreamId> streams = world.Form(2);
  for (uint64_t round = 1; round <= 5; ++round) Finish(&world, streams, {.round = round});
  EXPECT_EQ(world.core().snapshot().kept_rounds, 2u);
  world.Contribute(streams[0], {.round = 4});
  EXPECT_EQ(world.TakeResult(streams[0]).key.round, 4u);
}

TEST_F(RoundsTest, AMemberFarBehindManyFailedRoundsIsToldSo) {
  Settings settings;
  settings.limits.kept_rounds = 4;
  settings.limits.open_rounds = 4;  // as many are kept that a member has not settled
  CoreWorld world(settings);
  const std::vector<StreamId> streams = world.Form(3);
  for (uint64_t round = 1; round <= 20; ++round) {
    world.Contribute(streams[0], {.round = round, .channels = 1});
    world.Contribute(streams[1], {.round = round, .channels = 2});
  }
  EXPECT_EQ(world.core().snapshot().kept_rounds, 4u);
  for (uint64_t round = 1; round <= 20; ++round) {
    world.Contribute(streams[2], {.round = round});
    EXPECT_THAT(world.TakeFailure(streams[2]).text,
                HasSubstr(round <= 16 ? "< oldest kept 17" : "channels=2"));
  }
  for (const int rank : {0, 1}) EXPECT_EQ(world.Take(streams[rank]).size(), 20u);
  Finish(&world, streams, {.round = 21});
}

// Settling: which rounds are kept, by what the members say they have answers to.

class SettlingTest : public testing::Test {
 protected:
  SettlingTest() {
    settings_ = WithoutGrace();
    settings_.limits.kept_rounds = 4;
    settings_.limits.open_rounds = 8;
  }
  // All contribute to the rounds up to `last`; `answered` are what they tell, by rank.
  void Reduce(CoreWorld* world, const std::vector<StreamId>& streams, uint64_t last,
              const std::vector<uint64_t>& answered) {
    for (; next_ <= last; ++next_) {
      for (size_t rank = 0; rank < streams.size(); ++rank) {
        wire::Contribution contribution = Make({.round = next_}, 1);
        contribution.answered = std::min(answered[rank], next_ - 1);
        world->ContributeAs(streams[rank], contribution);
      }
      for (const StreamId stream : streams) settled_ = world->TakeResult(stream).settled;
    }
  }

  Settings settings_;
  uint64_t next_ = 1;
  uint64_t settled_ = 0;
};

TEST_F(SettlingTest, AResultTellsTheSmallestOfWhatTheMembersHaveAnswersTo) {
  CoreWorld world(settings_);
  const std::vector<StreamId> streams = world.Form(3);
  Reduce(&world, streams, 1, {0, 0, 0});
  EXPECT_EQ(settled_, 0u);
  Reduce(&world, streams, 6, {5, 3, 4});
  EXPECT_EQ(settled_, 3u);
  Reduce(&world, streams, 7, {6, 1, 6});
  EXPECT_EQ(settled_, 3u) << "it never goes back";
}

TEST_F(SettlingTest, RoundsThatAreNotSettledAreKeptLonger) {
  CoreWorld world(settings_);
  const std::vector<StreamId> streams = world.Form(2);
  Reduce(&world, streams, 20, {20, 2});
  EXPECT_EQ(world.core().snapshot().kept_rounds, 8u) << "as many as may be open";
  world.ContributeAs(streams[1], Make({.round = 13}, 1));
  EXPECT_EQ(world.TakeResult(streams[1]).key.round, 13u);
  Reduce(&world, streams, 21, {20, 20});
  EXPECT_EQ(world.core().snapshot().kept_rounds, 4u);
}

TEST_F(SettlingTest, AMemberOfTheFirstProtocolTellsNothingAndIsWaitedForByNobody) {
  CoreWorld world(settings_);
  std::vector<StreamId> streams;
  for (uint32_t rank = 0; rank < 2; ++rank) {
    wire::Join join = MakeJoin(rank, 2);
    join.protocol_minor = rank;
    streams.push_back(world.Join(join));
  }
  for (const StreamId stream : streams) world.TakeJoined(stream);
  Reduce(&world, streams, 20, {0, 20});
  EXPECT_EQ(settled_, 19u);
  EXPECT_EQ(world.core().snapshot().kept_rounds, 4u);
}

TEST_F(SettlingTest, WhatAMemberTellsOfRoundsThatItHasNotReachedIsNotBelieved) {
  CoreWorld world(settings_);
  const std::vector<StreamId> streams = world.Form(2);
  for (const StreamId stream : streams) {
    wire::Contribution contribution = Make({.round = 1}, 1);
    contribution.answered = 1000;
    world.ContributeAs(stream, contribution);
  }
  EXPECT_EQ(world.TakeResult(streams[0]).settled, 0u);
  EXPECT_EQ(world.TakeResult(streams[1]).settled, 0u);
}

TEST_F(SettlingTest, BytesLimitRoundsThatAreNotSettledToo) {
  settings_.limits.kept_bytes = 2000;
  CoreWorld world(settings_);
  const std::vector<StreamId> streams = world.Form(2);
  Reduce(&world, streams, 20, {0, 0});
  const Snapshot snapshot = world.core().snapshot();
  EXPECT_LE(snapshot.kept_bytes, 2000u);
  EXPECT_GT(snapshot.kept_rounds, kMinKeptRounds);
  EXPECT_LT(snapshot.kept_rounds, 8u);
}

}  // namespace
}  // namespace syncnorm::server
