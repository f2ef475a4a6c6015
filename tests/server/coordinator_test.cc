// Streams, groups and memberships.

#include "server/coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class CoordinatorTest : public testing::Test {
 protected:
  wire::Join Stranger(uint32_t rank, uint32_t world_size) {
    wire::Join join = MakeJoin(rank, world_size);
    join.host = "elsewhere";
    join.pid = 999;
    join.incarnation = "another process.";
    return join;
  }
  // Contributes for all, and takes the results.
  void Reduce(const std::vector<StreamId>& streams, uint64_t round) {
    for (const StreamId stream : streams) world_.Contribute(stream, {.round = round});
    for (const StreamId stream : streams) world_.TakeResult(stream);
  }

  CoreWorld world_;
};

TEST_F(CoordinatorTest, SendsJoinedToAllWhenTheLastMemberJoins) {
  Settings settings;
  settings.coordinator_id = 42;
  settings.limits.kept_rounds = 7;
  CoreWorld world(settings);
  const StreamId b = world.Join(MakeJoin(1, 2));
  EXPECT_TRUE(world.Take(b).empty());
  const StreamId a = world.Join(MakeJoin(0, 2));
  const std::string bytes = world.TakeBytes(a);
  const wire::Joined joined = world.TakeJoined(b);
  EXPECT_EQ(joined.epoch, 1u);
  EXPECT_EQ(joined.world_size, 2u);
  EXPECT_EQ(joined.hosts, (std::vector<std::string>{"h0", "h1"}));
  EXPECT_EQ(joined.round_timeout, absl::Seconds(60));
  EXPECT_EQ(joined.coordinator_id, 42u);
  EXPECT_EQ(joined.limits.kept_results, 7u);
  EXPECT_EQ(joined.limits.max_values, settings.limits.values);
  EXPECT_EQ(joined.limits.max_message_bytes, MaxMessageBytes(settings.limits));
}

TEST_F(CoordinatorTest, EpochsGrowOverAllGroups) {
  EXPECT_EQ(world_.TakeJoined(world_.Join(MakeJoin(0, 1, "a"))).epoch, 1u);
  EXPECT_EQ(world_.TakeJoined(world_.Join(MakeJoin(0, 1, "b"))).epoch, 2u);
}

TEST_F(CoordinatorTest, ADisagreementWhileJoiningIsToldToAllAndTheGroupIsForgotten) {
  const StreamId a = world_.Join(MakeJoin(0, 3));
  const StreamId b = world_.Join(MakeJoin(1, 3));
  const StreamId c = world_.Join(MakeJoin(2, 4));
  const std::string bytes = world_.TakeBytes(a);
  EXPECT_EQ(world_.TakeBytes(b), bytes);
  EXPECT_EQ(world_.TakeBytes(c), bytes);
  for (const StreamId stream : {a, b, c}) EXPECT_TRUE(world_.closed(stream));
  EXPECT_EQ(world_.core().snapshot().groups, 0u);
  EXPECT_EQ(world_.core().snapshot().streams, 0u);
  world_.Form(4);
}

TEST_F(CoordinatorTest, ADuplicateRankWhileJoiningIsToldToAll) {
  const StreamId a = world_.Join(MakeJoin(0, 3));
  const StreamId b = world_.Join(MakeJoin(1, 3));
  const StreamId c = world_.Join(Stranger(1, 3));
  const Failure failure = world_.TakeFailure(a);
  EXPECT_EQ(failure.code, absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(failure.text, AllOf(HasSubstr("host elsewhere, pid 999"), HasSubstr("host h1")));
  EXPECT_EQ(world_.TakeFailure(b), failure);
  EXPECT_EQ(world_.TakeFailure(c), failure);
}

TEST_F(CoordinatorTest, TheSameProcessMayJoinAgainWhileTheGroupForms) {
  const StreamId old = world_.Join(MakeJoin(0, 2));
  const StreamId fresh = world_.Join(MakeJoin(0, 2));
  EXPECT_EQ(world_.TakeFailure(old).code, absl::StatusCode::kUnavailable) << "it tries again";
  EXPECT_TRUE(world_.closed(old));
  world_.Disconnect(old);
  const StreamId other = world_.Join(MakeJoin(1, 2));
  EXPECT_EQ(world_.TakeJoined(fresh).epoch, 1u);
  world_.TakeJoined(other);
}

TEST_F(CoordinatorTest, ASecondMembershipOfAProcessEndsItsFirst) {
  const StreamId old = world_.Join(MakeJoin(0, 2));
  wire::Join again = MakeJoin(0, 2);
  again.ticket = 77;
  const StreamId fresh = world_.Join(again);
  const Failure failure = world_.TakeFailure(old);
  EXPECT_EQ(failure.code, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(failure.text, HasSubstr("this worker was replaced by rank 0 (host h0, pid 100)"));
  world_.Join(MakeJoin(1, 2));
  world_.TakeJoined(fresh);
}

TEST_F(CoordinatorTest, ALivingRankIsRefusedToANewcomerAndTheEpochGoesOn) {
  const std::vector<StreamId> streams = world_.Form(2);
  const StreamId newcomer = world_.Join(Stranger(1, 2));
  const Failure failure = world_.TakeFailure(newcomer);
  EXPECT_EQ(failure.code, absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(failure.text, AllOf(HasSubstr("rank 1 (host h1, pid 101) holds"),
                                  HasSubstr("group \"world\" epoch 1")));
  EXPECT_TRUE(world_.closed(newcomer));
  Reduce(streams, 1);
}

TEST_F(CoordinatorTest, AnotherWorldSizeIsRefusedToANewcomerOfARunningGroup) {
  const std::vector<StreamId> streams = world_.Form(2);
  const Failure failure = world_.TakeFailure(world_.Join(Stranger(5, 8)));
  EXPECT_THAT(failure.text,
              AllOf(HasSubstr("says world_size 8"), HasSubstr("rank 0 (host h0, pid 100) said 2")));
  Reduce(streams, 1);
}

TEST_F(CoordinatorTest, TheJoinDeadlineEndsTheJoiningForAll) {
  wire::Join join = MakeJoin(1, 3);
  join.join_timeout = absl::Seconds(10);
  const StreamId b = world_.Join(join);
  EXPECT_EQ(world_.core().NextDeadline(), world_.now() + absl::Seconds(5));  // of a Join
  world_.Pass(absl::Seconds(9));
  EXPECT_TRUE(world_.Take(b).empty());
  EXPECT_EQ(world_.core().NextDeadline(), world_.now() + absl::Seconds(1));
  world_.Pass(absl::Seconds(1));
  const Failure failure = world_.TakeFailure(b);
  EXPECT_EQ(failure.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(failure.ranks, (std::vector<uint32_t>{0, 2}));
  EXPECT_THAT(failure.text, AllOf(HasSubstr("ranks 0,2"), HasSubstr("present: rank 1")));
  EXPECT_TRUE(world_.closed(b));
  EXPECT_EQ(world_.core().snapshot().groups, 0u);
}

TEST_F(CoordinatorTest, AMemberThatIsLostWhileJoiningFreesItsSeat) {
  const StreamId a = world_.Join(MakeJoin(0, 2));
  world_.Disconnect(a);
  EXPECT_EQ(world_.core().snapshot().groups, 0u);
  const StreamId b = world_.Join(MakeJoin(1, 3));
  world_.Disconnect(world_.Join(MakeJoin(0, 3)));
  const StreamId again = world_.Join(Stranger(0, 3));
  const StreamId c = world_.Join(MakeJoin(2, 3));
  for (const StreamId stream : {b, again, c}) world_.TakeJoined(stream);
}

TEST_F(CoordinatorTest, AnUnknownProtocolIsRefusedNamingBothVersions) {
  wire::Join join = MakeJoin(0, 1);
  join.protocol_major = 2;
  join.protocol_minor = 7;
  const StreamId stream = world_.Join(join);
  const Failure failure = world_.TakeFailure(stream);
  EXPECT_EQ(failure.code, absl::StatusCode::kUnimplemented);
  EXPECT_THAT(failure.text, AllOf(HasSubstr("protocol 2.7"), HasSubstr("speaks 1.2")));
}

TEST_F(CoordinatorTest, BadJoinsAreRefused) {
  EXPECT_EQ(world_.TakeFailure(world_.Join(MakeJoin(0, 0))).code,
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(world_.TakeFailure(world_.Join(MakeJoin(2, 2))).code,
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(world_.TakeFailure(world_.Join(MakeJoin(0, 5000))).code,
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(world_.TakeFailure(world_.Join(MakeJoin(0, 1, "no spaces"))).code,
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(world_.TakeFailure(world_.Join(MakeJoin(0, 1, std::string(129, 'x')))).code,
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(world_.core().snapshot().groups, 0u);
}

TEST_F(CoordinatorTest, GroupsMembersAndStreamsAreLimited) {
  Settings settings;
  settings.limits.groups = 2;
  settings.limits.members = 3;
  settings.limits.streams = 4;
  CoreWorld world(settings);
  const Failure members = world.TakeFailure(world.Join(MakeJoin(0, 4, "big")));
  EXPECT_EQ(members.code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(members.text, HasSubstr("world_size 4 exceeds this coordinator's 3"));
  world.Form(1, "a");
  const std::vector<StreamId> b = world.Form(1, "b");
  const Failure groups = world.TakeFailure(world.Join(MakeJoin(0, 1, "c")));
  EXPECT_EQ(groups.code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(groups.text, HasSubstr("all 2 groups are taken"));
  world.Open();
  world.Open();
  const StreamId fifth = world.Open();
  EXPECT_EQ(world.TakeFailure(fifth).code, absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(world.closed(fifth));
  world.Leave(b[0]);
  world.Form(1, "c");
}

// Found by fuzz_events: whoever takes the place of a member ends its group, and had a new one
// whatever the limit.
TEST_F(CoordinatorTest, AGroupThatIsOverCountsForAsLongAsItHasStreams) {
  Settings settings = WithoutGrace();
  settings.limits.groups = 1;
  settings.timeouts.replace_duplicates = true;
  CoreWorld world(settings);
  const std::vector<StreamId> old = world.Form(2);
  wire::Join join = MakeJoin(0, 2);
  join.incarnation.assign(wire::kIncarnationBytes, 'n');
  const Failure refused = world.TakeFailure(world.Join(join));
  EXPECT_EQ(refused.code, absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.text, HasSubstr("all 1 groups are taken"));
  EXPECT_EQ(world.core().snapshot().groups, 1u);
  EXPECT_EQ(world.TakeFailure(old[1]).ranks, std::vector<uint32_t>{0});
  for (const StreamId stream : old) world.Disconnect(stream);
  world.Form(2);
}

TEST_F(CoordinatorTest, AWorkerThatIsReplacedIsToldByWhom) {
  Settings settings = WithoutGrace();
  settings.timeouts.replace_duplicates = true;
  CoreWorld world(settings);
  const std::vector<StreamId> old = world.Form(2);
  world.Join(Stranger(0, 2));
  const Failure replaced = world.TakeFailure(old[0]);
  EXPECT_EQ(replaced.code, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(replaced.text, AllOf(HasSubstr("group \"world\" epoch 1"),
                                   HasSubstr("replaced by rank 0 (host elsewhere, pid 999)")));
  EXPECT_THAT(
      world.TakeFailure(old[1]).text,
      HasSubstr("rank 0 (host h0, pid 100) was replaced by rank 0 (host elsewhere, pid 999)"));
}

TEST_F(CoordinatorTest, AStreamThatDoesNotJoinIsClosed) {
  const StreamId silent = world_.Open();
  EXPECT_EQ(world_.core().NextDeadline(), world_.now() + absl::Seconds(5));
  world_.Pass(absl::Seconds(4));
  const StreamId prompt = world_.Open();
  world_.JoinOn(prompt, MakeJoin(0, 1));
  world_.Pass(absl::Seconds(1));
  EXPECT_EQ(world_.TakeFailure(silent).code, absl::StatusCode::kUnavailable);
  EXPECT_TRUE(world_.closed(silent));
  EXPECT_FALSE(world_.closed(prompt));
}

TEST_F(CoordinatorTest, ALostMemberFailsWhatIsOpenAndClosesTheEpoch) {
  const std::vector<StreamId> streams = world_.Form(4);
  Reduce(streams, 1);
  world_.Contribute(streams[0], {.round = 2, .layer = "bn2"});
  world_.Contribute(streams[1], {.round = 2, .layer = "bn2"});
  world_.Disconnect(streams[3]);

  const std::vector<CoreWorld::Got> waiting = world_.Take(streams[0]);
  ASSERT_EQ(waiting.size(), 2u);
  const Failure& round = waiting[0].message.failure;
  EXPECT_EQ(round.key, (RoundKey{1, 2, "bn2", Direction::kForward, 1}));
  EXPECT_EQ(round.code, absl::StatusCode::kAborted);
  EXPECT_EQ(
      round.text,
      "group \"world\" epoch 1 round 2 layer bn2 (forward, step 1): rank 3 (host h3, pid 103) "
      "disconnected; its last was round 1 layer bn1 (forward, step 1); epoch 1 is closed");
  const Failure& membership = waiting[1].message.failure;
  EXPECT_EQ(membership.key.round, 0u);
  EXPECT_EQ(membership.ranks, std::vector<uint32_t>{3});
  EXPECT_EQ(membership.hosts, std::vector<std::string>{"h3"});
  EXPECT_EQ(membership.text,
            "group \"world\" epoch 1: rank 3 (host h3, pid 103) disconnected; its last was round 1 "
            "layer bn1 (forward, step 1); epoch 1 is closed");
  EXPECT_EQ(world_.Take(streams[1]).size(), 2u);
  EXPECT_EQ(world_.TakeFailure(streams[2]), membership);

  // What comes after is told the same, for its own round.
  world_.Contribute(streams[2], {.round = 2, .layer = "bn2"});
  const Failure late = world_.TakeFailure(streams[2]);
  EXPECT_EQ(late.text, membership.text);
  EXPECT_EQ(late.key.round, 2u);
  EXPECT_EQ(late.code, absl::StatusCode::kAborted);
  for (const int rank : {0, 1, 2}) EXPECT_FALSE(world_.closed(streams[rank]));
}

TEST_F(CoordinatorTest, MembersOfAClosedEpochMayJoinAgainForANewOne) {
  const std::vector<StreamId> old = world_.Form(2);
  world_.Disconnect(old[1]);
  world_.Take(old[0]);
  // The old stream of rank 0 is still there.
  const StreamId a = world_.Join(MakeJoin(0, 2));
  const StreamId b = world_.Join(Stranger(1, 2));
  EXPECT_EQ(world_.TakeJoined(a).epoch, 2u);
  EXPECT_EQ(world_.TakeJoined(b).epoch, 2u);
  Reduce({a, b}, 1);
  world_.Contribute(old[0], {.round = 1});
  EXPECT_THAT(world_.TakeFailure(old[0]).text, HasSubstr("epoch 1 is closed"));
  EXPECT_EQ(world_.core().snapshot().groups, 2u);
  world_.Leave(old[0]);
  EXPECT_EQ(world_.core().snapshot().groups, 1u);
  Reduce({a, b}, 2);
}

TEST_F(CoordinatorTest, MembersThatLeaveOneByOneAreNoFailure) {
  const std::vector<StreamId> streams = world_.Form(3);
  Reduce(streams, 1);
  for (const StreamId stream : streams) {
    world_.Leave(stream);
    EXPECT_TRUE(world_.closed(stream));
    EXPECT_TRUE(world_.Take(stream).empty());
  }
  const Snapshot snapshot = world_.core().snapshot();
  EXPECT_EQ(snapshot.groups, 0u);
  EXPECT_EQ(snapshot.streams, 0u);
  EXPECT_EQ(snapshot.kept_bytes, 0u);
  EXPECT_EQ(snapshot.rounds.completed, 1u);
}

TEST_F(CoordinatorTest, AContributionAfterAMemberLeftNamesIt) {
  const std::vector<StreamId> streams = world_.Form(3);
  world_.Leave(streams[2]);
  EXPECT_TRUE(world_.Take(streams[0]).empty());
  world_.Contribute(streams[0], {.round = 1});
  const std::vector<CoreWorld::Got> got = world_.Take(streams[0]);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].message.failure.key.round, 0u);
  EXPECT_EQ(got[1].message.failure.key.round, 1u);
  EXPECT_EQ(got[1].message.failure.ranks, std::vector<uint32_t>{2});
  EXPECT_EQ(
      got[1].message.failure.text,
      "group \"world\" epoch 1: rank 2 left before round 1 layer bn1 (forward, step 1); epoch "
      "1 is closed");
  EXPECT_EQ(world_.TakeFailure(streams[1]).key.round, 0u);
}

TEST_F(CoordinatorTest, LeavingARoundThatWaitsClosesTheEpoch) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {});
  world_.Leave(streams[1], "out of data");
  const std::vector<CoreWorld::Got> got = world_.Take(streams[0]);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].message.failure.key.round, 1u);
  EXPECT_THAT(got[0].message.failure.text,
              HasSubstr("rank 1 (host h1, pid 101) left: out of data; it contributed to no round"));
}

TEST_F(CoordinatorTest, ARankThatLeftMayJoinAgainBeforeTheOthersLeave) {
  const std::vector<StreamId> old = world_.Form(2);
  world_.Leave(old[0]);
  const StreamId a = world_.Join(MakeJoin(0, 2));
  EXPECT_TRUE(world_.Take(a).empty());
  world_.Leave(old[1]);
  const StreamId b = world_.Join(MakeJoin(1, 2));
  EXPECT_EQ(world_.TakeJoined(a).epoch, 2u);
  EXPECT_EQ(world_.TakeJoined(b).epoch, 2u);
  Reduce({a, b}, 1);
}

TEST_F(CoordinatorTest, AMalformedMessageIsToldToItsSenderAndLosesTheMember) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {});
  world_.Malformed(streams[1], "M2 is -1 at channel 3");
  const Failure failure = world_.TakeFailure(streams[1]);
  EXPECT_EQ(failure.code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(failure.text,
            "group \"world\" epoch 1: rank 1 (host h1, pid 101) sent a malformed message: M2 is -1 "
            "at channel 3");
  EXPECT_TRUE(world_.closed(streams[1]));
  const std::vector<CoreWorld::Got> other = world_.Take(streams[0]);
  ASSERT_EQ(other.size(), 2u);
  EXPECT_THAT(other[0].message.failure.text,
              HasSubstr("rank 1 (host h1, pid 101) sent a malformed"));
}

TEST_F(CoordinatorTest, BreakingTheProtocolClosesTheStream) {
  const StreamId early = world_.Open();
  world_.Contribute(early, {});
  EXPECT_EQ(world_.TakeFailure(early).code, absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(world_.closed(early));

  const StreamId forming = world_.Join(MakeJoin(0, 2));
  world_.Contribute(forming, {});
  EXPECT_THAT(world_.TakeFailure(forming).text, HasSubstr("before it was Joined"));

  const std::vector<StreamId> streams = world_.Form(2);
  world_.JoinOn(streams[0], MakeJoin(0, 2));
  EXPECT_THAT(world_.TakeFailure(streams[0]).text, HasSubstr("a second Join"));
  EXPECT_EQ(world_.TakeFailure(streams[1]).ranks, std::vector<uint32_t>{0});
}

TEST_F(CoordinatorTest, AStreamThatLeavesWithoutJoiningIsClosed) {
  const StreamId stream = world_.Open();
  world_.Leave(stream);
  EXPECT_TRUE(world_.closed(stream));
  EXPECT_EQ(world_.core().snapshot().streams, 0u);
}

TEST_F(CoordinatorTest, ManyGroupsDoNotAffectOneAnother) {
  constexpr int kGroups = 200;
  std::vector<std::vector<StreamId>> groups;
  for (int g = 0; g < kGroups; ++g) groups.push_back(world_.Form(3, absl::StrCat("job/", g)));
  for (uint32_t rank = 0; rank < 3; ++rank) {
    for (int g = 0; g < kGroups; ++g) {
      world_.Contribute(groups[g][rank], {.value = 1.0 + g});
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    EXPECT_EQ(world_.TakeResult(groups[g][0]).moments.values[0], 3.0 * (1 + g));
    world_.Take(groups[g][1]);
    world_.Take(groups[g][2]);
  }
  world_.Disconnect(groups[7][1]);
  EXPECT_EQ(world_.Take(groups[7][0]).size(), 1u);
  for (int g = 0; g < kGroups; ++g) {
    if (g != 7) Reduce(groups[g], 2);
  }
}

TEST_F(CoordinatorTest, DrainTellsAllAndLetsOpenRoundsFinish) {
  const std::vector<StreamId> busy = world_.Form(2, "busy");
  const std::vector<StreamId> idle = world_.Form(1, "idle");
  const StreamId forming = world_.Join(MakeJoin(0, 2, "forming"));
  const StreamId stranger = world_.Open();
  world_.Contribute(busy[0], {});
  world_.Drain(absl::Seconds(10));

  EXPECT_EQ(world_.TakeFailure(stranger).code, absl::StatusCode::kUnavailable);
  for (const StreamId stream : {idle[0], forming}) {
    const std::vector<CoreWorld::Got> got = world_.Take(stream);
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got[0].message.kind, wire::CoordinatorMessage::Kind::kDraining);
    EXPECT_EQ(got[1].message.failure.code, absl::StatusCode::kUnavailable);
    EXPECT_TRUE(world_.closed(stream));
  }
  EXPECT_FALSE(world_.core().drained());
  const StreamId late = world_.Open();
  EXPECT_EQ(world_.TakeFailure(late).code, absl::StatusCode::kUnavailable);

  EXPECT_EQ(world_.Take(busy[0]).size(), 1u);
  world_.Take(busy[1]);
  world_.Contribute(busy[1], {});
  for (const StreamId stream : busy) {
    const std::vector<CoreWorld::Got> got = world_.Take(stream);
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got[0].message.kind, wire::CoordinatorMessage::Kind::kResult);
    EXPECT_EQ(got[1].message.failure.key.round, 0u);
    EXPECT_THAT(got[1].message.failure.text, HasSubstr("going down"));
    EXPECT_TRUE(world_.closed(stream));
  }
  EXPECT_TRUE(world_.core().drained());
}

// Its worker sends it again, to the coordinator's next life.
TEST_F(CoordinatorTest, ARoundThatWouldStartWhileDrainingIsNotAnswered) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {.round = 1});
  world_.Drain(absl::Seconds(10));
  world_.Take(streams[0]);
  world_.Contribute(streams[0], {.round = 2});
  EXPECT_TRUE(world_.Take(streams[0]).empty());
  world_.Contribute(streams[1], {.round = 1});
  const std::vector<CoreWorld::Got> got = world_.Take(streams[0]);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].message.result.key.round, 1u);
  EXPECT_EQ(got[1].message.failure.code, absl::StatusCode::kUnavailable);
  EXPECT_EQ(got[1].message.failure.key.round, 0u);
  EXPECT_TRUE(world_.closed(streams[0]));
}

TEST_F(CoordinatorTest, ADrainGivesMembersTimeToLeaveAfterTheOthers) {
  const std::vector<StreamId> streams = world_.Form(3);
  world_.Leave(streams[0]);
  world_.Drain(absl::Seconds(10));
  world_.Leave(streams[1]);
  for (const int rank : {1, 2}) {
    const std::vector<CoreWorld::Got> got = world_.Take(streams[rank]);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].message.kind, wire::CoordinatorMessage::Kind::kDraining);
  }
  EXPECT_FALSE(world_.core().drained());
  world_.Pass(absl::Seconds(10));
  const Failure failure = world_.TakeFailure(streams[2]);
  EXPECT_EQ(failure.code, absl::StatusCode::kAborted) << "the others left: there is no coming back";
  EXPECT_THAT(failure.text, AllOf(HasSubstr("ranks 0,1 left"), HasSubstr("going down")));
  EXPECT_TRUE(world_.core().drained());
}

TEST_F(CoordinatorTest, TheGraceOfADrainIsLimited) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {});
  world_.Drain(absl::Seconds(10));
  world_.Take(streams[0]);
  EXPECT_LE(world_.core().NextDeadline(), world_.now() + absl::Seconds(10));
  world_.Pass(absl::Seconds(10));
  const std::vector<CoreWorld::Got> got = world_.Take(streams[0]);
  ASSERT_EQ(got.size(), 1u) << "the round is not failed: its members send it again, later";
  EXPECT_EQ(got[0].message.failure.key.round, 0u);
  EXPECT_EQ(got[0].message.failure.code, absl::StatusCode::kUnavailable);
  EXPECT_TRUE(world_.core().drained());
}

TEST_F(CoordinatorTest, WhatComesOnAForgottenStreamIsIgnored) {
  const std::vector<StreamId> streams = world_.Form(1);
  world_.Leave(streams[0]);
  world_.Contribute(streams[0], {});
  world_.Leave(streams[0]);
  world_.JoinOn(streams[0], MakeJoin(0, 1));
  world_.Malformed(streams[0], "late");
  world_.Disconnect(streams[0]);
  EXPECT_TRUE(world_.Take(streams[0]).empty());
}

TEST_F(CoordinatorTest, FailuresAreNotedForTheLog) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {.channels = 1});
  world_.Contribute(streams[1], {.channels = 2});
  world_.Disconnect(streams[1]);
  const std::vector<Note> notes = world_.TakeWholeNotes();
  ASSERT_EQ(notes.size(), 3u);
  EXPECT_THAT(notes[0].text, HasSubstr("started with 2 members"));
  EXPECT_THAT(notes[1].text, HasSubstr("channels=2"));
  EXPECT_THAT(notes[2].text, HasSubstr("disconnected"));
  for (const Note& note : notes) {
    EXPECT_EQ(note.subject.group, "world");
    EXPECT_EQ(note.subject.key.epoch, 1u);
  }
  EXPECT_EQ(notes[0].subject.key.round, 0u);
  EXPECT_EQ(notes[1].subject.key, (RoundKey{1, 1, "bn1", Direction::kForward, 1}));
  EXPECT_EQ(notes[1].subject.ranks, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(notes[2].subject.ranks, std::vector<uint32_t>{1});
}

TEST_F(CoordinatorTest, NotesOnStrangersAndOnRoundsThatWaitSayWhatTheyAreAbout) {
  world_.Join(MakeJoin(7, 2, "else"));  // no such rank
  std::vector<Note> notes = world_.TakeWholeNotes();
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0].source, Note::Source::kStranger);
  EXPECT_EQ(notes[0].subject.group, "else");
  EXPECT_EQ(notes[0].subject.ranks, std::vector<uint32_t>{7});

  const std::vector<StreamId> streams = world_.Form(3);
  world_.Contribute(streams[1], {});
  world_.TakeWholeNotes();
  world_.Pass(Timeouts().straggler_warning);
  notes = world_.TakeWholeNotes();
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0].source, Note::Source::kWait);
  EXPECT_EQ(notes[0].subject.key.round, 1u);
  EXPECT_EQ(notes[0].subject.key.layer, "bn1");
  EXPECT_EQ(notes[0].subject.ranks, (std::vector<uint32_t>{0, 2}));
}

}  // namespace
}  // namespace syncnorm::server
