// What a running core tells of its groups: lateness, the last rounds, open rounds, failures
// and stragglers.

#include "server/group_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

Settings Reporting() {
  Settings settings = WithoutGrace();
  settings.report_incidents = true;
  return settings;
}

class GroupReportTest : public testing::Test {
 protected:
  // All contribute to the round, `late` 20 ms after the others.
  void Reduce(const std::vector<StreamId>& streams, const Sent& sent, uint32_t late) {
    for (uint32_t rank = 0; rank < streams.size(); ++rank) {
      if (rank != late) world_.Contribute(streams[rank], sent);
    }
    world_.Pass(absl::Milliseconds(20));
    world_.Contribute(streams[late], sent);
  }

  Report::Group Told(const std::string& group = "world", size_t rounds = 100) {
    const std::vector<uint64_t> ids = world_.core().GroupsNamed(group);
    EXPECT_THAT(ids, SizeIs(1));
    if (ids.size() != 1) return {};
    return *world_.core().ReportOn(world_.now(), ids[0], rounds, /*timeline=*/false);
  }

  std::vector<std::string> NotesWith(const std::string& text) {
    std::vector<std::string> found;
    for (std::string& note : world_.TakeNotes()) {
      if (note.find(text) != std::string::npos) found.push_back(std::move(note));
    }
    return found;
  }

  CoreWorld world_{Reporting()};
};

TEST_F(GroupReportTest, NamesTheSlowRankAndTheLayersThatWaited) {
  const std::vector<StreamId> streams = world_.Form(3);
  Reduce(streams, {.round = 1, .layer = "bn1"}, 1);
  Reduce(streams, {.round = 2, .layer = "bn2"}, 1);
  Reduce(streams, {.round = 3, .layer = "bn1", .step = 2}, 1);
  Reduce(streams, {.round = 4, .layer = "bn2", .step = 2}, 0);
  const Report::Group report = Told();
  EXPECT_EQ(report.name, "world");
  EXPECT_EQ(report.epoch, 1u);
  EXPECT_EQ(report.state, "running");
  ASSERT_THAT(report.members, SizeIs(3));
  const Report::Member& slow = report.members[1];
  EXPECT_EQ(slow.rank, 1u);
  EXPECT_EQ(slow.host, "h1");
  EXPECT_EQ(slow.pid, 101u);
  EXPECT_EQ(slow.state, "here");
  EXPECT_EQ(slow.heard, absl::Milliseconds(20));
  EXPECT_EQ(slow.lateness.late.count(), 4u);
  EXPECT_EQ(slow.lateness.last, 3u);
  EXPECT_EQ(slow.lateness.late.sum(), absl::Milliseconds(60));
  EXPECT_EQ(report.members[2].lateness.last, 0u);
  ASSERT_THAT(report.layers, SizeIs(2));
  EXPECT_EQ(report.layers[0].name, "bn1");
  EXPECT_EQ(report.layers[0].wait, absl::Milliseconds(40));
  ASSERT_THAT(report.layers[0].last, SizeIs(1));
  EXPECT_EQ(report.layers[0].last[0].rank, 1u);
  EXPECT_EQ(report.layers[0].last[0].rounds, 2u);
  ASSERT_THAT(report.layers[1].last, SizeIs(2));
  EXPECT_EQ(report.layers[1].last[0].rank, 0u);  // as often as rank 1, and before it
}

TEST_F(GroupReportTest, ALayerNamesTheThreeThatWereLastMostOften) {
  const std::vector<StreamId> streams = world_.Form(5);
  uint64_t round = 0;
  for (const uint32_t late : {4, 0, 1, 2, 3, 3, 4, 4, 2}) {
    ++round;
    Reduce(streams, {.round = round, .step = round}, late);
  }
  const Report::Group report = Told();
  std::vector<uint32_t> ranks;
  for (const Report::Last& last : report.layers[0].last) ranks.push_back(last.rank);
  EXPECT_THAT(ranks, ElementsAre(4, 2, 3));
}

TEST_F(GroupReportTest, OfRanksThatWereLastAsOftenTheLowestAreNamed) {
  const std::vector<StreamId> streams = world_.Form(5);
  uint64_t round = 0;
  for (const uint32_t late : {0, 1, 2, 3, 4}) {
    ++round;
    Reduce(streams, {.round = round, .step = round}, late);
  }
  const Report::Group report = Told();
  std::vector<uint32_t> ranks;
  for (const Report::Last& last : report.layers[0].last) ranks.push_back(last.rank);
  EXPECT_THAT(ranks, ElementsAre(0, 1, 2));
}

TEST_F(GroupReportTest, TellsTheLatestRoundsAndNoMoreThanAskedFor) {
  const std::vector<StreamId> streams = world_.Form(2);
  for (uint64_t round = 1; round <= 5; ++round) Reduce(streams, {.round = round}, 1);
  const Report::Group report = Told("world", 2);
  ASSERT_THAT(report.rounds, SizeIs(2));
  EXPECT_EQ(report.rounds[0].key.round, 5u);
  EXPECT_EQ(report.rounds[0].key.layer, "bn1");
  EXPECT_EQ(report.rounds[0].first_rank, 0u);
  EXPECT_EQ(report.rounds[0].last_rank, 1u);
  EXPECT_EQ(report.rounds[0].wait, absl::Milliseconds(20));
  EXPECT_EQ(report.rounds[0].code, absl::StatusCode::kOk);
  EXPECT_EQ(report.rounds[0].bytes, world_.Take(streams[0]).back().bytes.size());
  EXPECT_EQ(report.rounds[1].key.round, 4u);
}

TEST_F(GroupReportTest, AnOpenRoundTellsWhoIsMissingAndSinceWhen) {
  const std::vector<StreamId> streams = world_.Form(4);
  world_.Contribute(streams[2], {.round = 1, .layer = "bn7"});
  world_.Pass(absl::Milliseconds(300));
  world_.Contribute(streams[0], {.round = 1, .layer = "bn7"});
  world_.Pass(absl::Milliseconds(200));
  const Report::Group report = Told();
  ASSERT_THAT(report.open, SizeIs(1));
  EXPECT_EQ(report.open[0].key.layer, "bn7");
  EXPECT_EQ(report.open[0].open, absl::Milliseconds(500));
  EXPECT_THAT(report.open[0].contributed, ElementsAre(0, 2));
  EXPECT_THAT(report.open[0].missing, ElementsAre(1, 3));
  EXPECT_EQ(report.open[0].missing_count, 2u);
  EXPECT_THAT(report.rounds, IsEmpty());
}

TEST_F(GroupReportTest, ARoundThatRanIntoItsDeadlineTellsWhoWasMissing) {
  const std::vector<StreamId> streams = world_.Form(3);
  world_.Contribute(streams[0], {});
  world_.Pass(absl::Seconds(60));
  const Report::Group report = Told();
  ASSERT_THAT(report.rounds, SizeIs(1));
  EXPECT_EQ(report.rounds[0].code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(report.rounds[0].text, HasSubstr("did not contribute within 60.0 s"));
  EXPECT_THAT(report.rounds[0].missing, ElementsAre(1, 2));
  EXPECT_EQ(report.rounds[0].ended - report.rounds[0].opened, absl::Seconds(60));
  EXPECT_EQ(report.rounds[0].arrivals, 1u);
  EXPECT_EQ(report.members[0].lateness.missed, 0u);
  EXPECT_EQ(report.members[2].lateness.missed, 1u);
}

TEST_F(GroupReportTest, CountsRoundsByHowTheyEndedAndHowLongTheyTook) {
  const std::vector<StreamId> streams = world_.Form(2);
  Reduce(streams, {.round = 1}, 1);
  Reduce(streams, {.round = 2, .step = 2}, 1);
  world_.Contribute(streams[0], {.round = 3, .step = 3});
  world_.Pass(absl::Seconds(60));
  const Report::Group report = Told();
  EXPECT_EQ(report.counters.completed, 2u);
  EXPECT_EQ(report.counters.failed, 1u);
  EXPECT_EQ(report.counters.failed_by[static_cast<size_t>(absl::StatusCode::kDeadlineExceeded)],
            1u);
  EXPECT_EQ(report.counters.durations.count(), 2u) << "complete ones only";
  EXPECT_EQ(report.counters.durations.sum(), absl::Milliseconds(40));
}

TEST_F(GroupReportTest, TellsTheLastMinuteAndTheMinutesBefore) {
  const std::vector<StreamId> streams = world_.Form(2);
  Reduce(streams, {.round = 1}, 1);
  world_.Pass(absl::Seconds(5));  // a bin ends
  Reduce(streams, {.round = 2, .step = 2}, 1);
  Report::Group report = Told("world", 100);
  EXPECT_THAT(report.timeline, IsEmpty()) << "not asked for";
  EXPECT_EQ(report.recent.durations.count(), 2u);
  EXPECT_EQ(report.members[1].recent.last, 2u);
  report = *world_.core().ReportOn(world_.now(), 1, 100, /*timeline=*/true);
  ASSERT_THAT(report.timeline, SizeIs(1));
  EXPECT_EQ(report.timeline[0].durations.count(), 1u);
  ASSERT_THAT(report.timeline[0].ranks, SizeIs(2));
  EXPECT_FLOAT_EQ(report.timeline[0].ranks[1].late_s, 0.02f);
}

TEST_F(GroupReportTest, TellsHowFarAMembersOwnStatisticsAreFromTheGroups) {
  const std::vector<StreamId> streams = world_.Form(2);
  wire::Contribution sent;
  sent.key = {1, 1, "bn1", Direction::kForward, 1};
  sent.dtype = DType::kF32;
  sent.moments = Moments::MeanM2(1, Precision::kF64);
  sent.moments.count = 2;
  sent.moments.values = {2, 2};  // of 1 and 3
  world_.ContributeAs(streams[1], sent);
  sent.moments.values = {6, 2};  // of 5 and 7; together: mean 4, variance 5
  world_.ContributeAs(streams[0], sent);
  world_.Pass(absl::Seconds(3));
  const Report::Group report = Told();
  ASSERT_THAT(report.layers, SizeIs(1));
  ASSERT_TRUE(report.layers[0].drift.has_value());
  EXPECT_NEAR(*report.layers[0].drift->shift, 2 / std::sqrt(5), 1e-12);
  EXPECT_NEAR(report.layers[0].drift->spread, std::log(std::sqrt(5)), 1e-12);
  EXPECT_EQ(world_.now() - report.layers[0].drift->measured, absl::Seconds(3));
}

TEST_F(GroupReportTest, FailuresAreKeptWhenTheirGroupIsNoMore) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {});
  world_.Pass(absl::Seconds(60));
  ASSERT_THAT(world_.core().failures(), SizeIs(1));
  EXPECT_EQ(world_.core().failures()[0].group, "world");
  EXPECT_THAT(world_.core().failures()[0].text, HasSubstr("rank 1 (host h1, pid 101)"));
  EXPECT_EQ(world_.core().failures()[0].ended, world_.now());
}

TEST_F(GroupReportTest, AGroupThatFormsTellsWhoIsThere) {
  world_.Join(MakeJoin(1, 2));
  const Report::Group report = Told();
  EXPECT_EQ(report.state, "forming");
  EXPECT_EQ(report.epoch, 0u);
  EXPECT_EQ(report.members[0].state, "absent");
  EXPECT_EQ(report.members[0].heard, absl::InfiniteDuration());
  EXPECT_EQ(report.members[1].state, "here");
}

TEST_F(GroupReportTest, OnlyTheGroupThatIsAskedForIsTold) {
  world_.Form(1, "a");
  world_.Form(1, "b");
  EXPECT_THAT(world_.core().GroupsNamed(""), SizeIs(2));
  EXPECT_EQ(Told("b").name, "b");
  EXPECT_THAT(world_.core().GroupsNamed("c"), IsEmpty());
  EXPECT_FALSE(world_.core().ReportOn(world_.now(), 77, 1, false).has_value());
}

TEST_F(GroupReportTest, LayersBeyondTheLimitAreNotedOnce) {
  Settings settings;
  settings.limits.layers = 1;
  CoreWorld world(settings);
  const std::vector<StreamId> streams = world.Form(2);
  for (uint64_t round = 1; round <= 4; ++round) {
    for (const StreamId stream : streams) {
      world.Contribute(stream, {.round = round, .layer = absl::StrCat("bn", round)});
    }
  }
  std::vector<std::string> notes = world.TakeNotes();
  std::erase_if(notes,
                [](const std::string& note) { return note.find("layers") == std::string::npos; });
  EXPECT_THAT(notes, ElementsAre(AllOf(HasSubstr("group \"world\" epoch 1"),
                                       HasSubstr("more than 1 layers"), HasSubstr("bn2"))));
  const auto report = world.core().ReportOn(world.now(), 1, 10, false);
  EXPECT_THAT(report->layers, SizeIs(1));
  EXPECT_EQ(report->other_layers.rounds, 3u);
}

TEST_F(GroupReportTest, AStragglerIsNamedWithItsLayerOnceARound) {
  const std::vector<StreamId> streams = world_.Form(3);
  world_.TakeNotes();
  world_.Contribute(streams[0], {.layer = "bn3", .step = 17});
  world_.Contribute(streams[2], {.layer = "bn3", .step = 17});
  EXPECT_EQ(world_.core().NextDeadline(), world_.now() + absl::Seconds(1));
  world_.Pass(absl::Milliseconds(999));
  EXPECT_THAT(world_.TakeNotes(), IsEmpty());
  world_.Pass(absl::Milliseconds(1));
  EXPECT_THAT(
      world_.TakeNotes(),
      ElementsAre("group \"world\" epoch 1 round 1 layer bn3 (forward, step 17): has waited "
                  "1.0 s for rank 1 (host h1, pid 101) last heard 1.0 s ago; ranks 0,2 "
                  "came"));
  EXPECT_EQ(world_.core().NextDeadline(), world_.now() + absl::Seconds(59));
  world_.Pass(absl::Seconds(30));
  EXPECT_THAT(world_.TakeNotes(), IsEmpty());
  world_.Contribute(streams[1], {.layer = "bn3", .step = 17});
  for (const StreamId stream : streams) world_.TakeResult(stream);

  // The next round that waits is another.
  world_.Contribute(streams[0], {.round = 2});
  world_.Pass(absl::Seconds(1));
  EXPECT_THAT(NotesWith("has waited"), SizeIs(1));
  EXPECT_EQ(world_.core().snapshot().rounds.stragglers, 2u);
}

TEST_F(GroupReportTest, ARoundInTimeIsNotRemarkedOnBehindOneThatIsNot) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.TakeNotes();
  world_.Contribute(streams[0], {.round = 1});
  world_.Pass(absl::Milliseconds(600));
  world_.Contribute(streams[0], {.round = 2, .layer = "bn2"});
  world_.Pass(absl::Milliseconds(500));
  EXPECT_THAT(NotesWith("has waited"), ElementsAre(HasSubstr("bn1")));
  EXPECT_EQ(world_.core().NextDeadline(), world_.now() + absl::Milliseconds(500));
  world_.Contribute(streams[1], {.round = 1});
  world_.Contribute(streams[1], {.round = 2, .layer = "bn2"});
  world_.Pass(absl::Seconds(2));
  EXPECT_THAT(NotesWith("has waited"), IsEmpty());
}

TEST_F(GroupReportTest, AnInfiniteWarningIsNone) {
  Settings settings;
  settings.timeouts.straggler_warning = absl::InfiniteDuration();
  CoreWorld world(settings);
  const std::vector<StreamId> streams = world.Form(2);
  world.TakeNotes();
  world.Contribute(streams[0], {});
  world.Pass(absl::Seconds(59));
  EXPECT_THAT(world.TakeNotes(), IsEmpty());
}

TEST_F(GroupReportTest, AFailedRoundMakesAnIncidentWithTheGroupAsItWas) {
  const std::vector<StreamId> streams = world_.Form(2);
  Reduce(streams, {.round = 1}, 1);
  EXPECT_THAT(world_.TakeIncidents(), IsEmpty());
  world_.Contribute(streams[0], {.round = 2, .layer = "bn2"});
  world_.Contribute(streams[1], {.round = 2, .layer = "bn3"});
  const std::vector<Report> incidents = world_.TakeIncidents();
  ASSERT_THAT(incidents, SizeIs(1));
  EXPECT_THAT(incidents[0].why, AllOf(HasSubstr("bn2"), HasSubstr("bn3")));
  ASSERT_THAT(incidents[0].groups, SizeIs(1));
  EXPECT_THAT(incidents[0].groups[0].rounds, SizeIs(2));
  EXPECT_EQ(incidents[0].groups[0].rounds[0].code, absl::StatusCode::kAborted);
}

TEST_F(GroupReportTest, ALostMemberMakesOneIncidentEvenWhenItWasTheLast) {
  const std::vector<StreamId> streams = world_.Form(2);
  world_.Contribute(streams[0], {});
  world_.Pass(absl::Milliseconds(500));
  world_.Disconnect(streams[1]);
  const std::vector<Report> incidents = world_.TakeIncidents();
  ASSERT_THAT(incidents, SizeIs(1));
  EXPECT_THAT(incidents[0].why, HasSubstr("rank 1 (host h1, pid 101) disconnected"));
  EXPECT_EQ(incidents[0].groups[0].state, "closed");
  EXPECT_EQ(incidents[0].groups[0].members[1].state, "lost");
  const FlightRecorder::Entry& round = incidents[0].groups[0].rounds[0];
  EXPECT_EQ(round.ended - round.opened, absl::Milliseconds(500));

  // A group of one is gone with it.
  const std::vector<StreamId> alone = world_.Form(1, "alone");
  world_.Disconnect(alone[0]);
  EXPECT_THAT(world_.TakeIncidents(), SizeIs(1));
}

TEST_F(GroupReportTest, AGroupThatFailsInEveryRoundMakesAnIncidentInTenSeconds) {
  const std::vector<StreamId> streams = world_.Form(2);
  size_t incidents = 0;
  for (uint64_t round = 1; round <= 21; ++round) {
    world_.Contribute(streams[0], {.round = round, .layer = "bn2"});
    world_.Contribute(streams[1], {.round = round, .layer = "bn3"});
    incidents += world_.TakeIncidents().size();
    world_.Pass(absl::Seconds(1));
  }
  EXPECT_EQ(incidents, 3u);
}

TEST_F(GroupReportTest, ACleanEndAndADrainAreNoIncidents) {
  const std::vector<StreamId> streams = world_.Form(2);
  Reduce(streams, {.round = 1}, 1);
  for (const StreamId stream : streams) world_.Leave(stream);
  const std::vector<StreamId> others = world_.Form(2, "others");
  world_.Contribute(others[0], {});
  world_.Drain(absl::Seconds(1));
  world_.Pass(absl::Seconds(1));
  EXPECT_THAT(world_.TakeIncidents(), IsEmpty());
}

TEST_F(GroupReportTest, IncidentsAreNotMadeWhereNobodyWantsThem) {
  CoreWorld world;
  const std::vector<StreamId> streams = world.Form(2);
  world.Disconnect(streams[1]);
  EXPECT_THAT(world.TakeIncidents(), IsEmpty());
  EXPECT_THAT(world.TakeNotes(), Not(IsEmpty()));
}

}  // namespace
}  // namespace syncnorm::server
