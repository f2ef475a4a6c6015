// What syncnormctl top draws.

#include "server/ctl_top_frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

v1::VitalsReply Example(int groups = 1, uint32_t ranks = 3) {
  v1::VitalsReply vitals;
  vitals.set_version("0.1.0");
  vitals.set_up_s(7200);
  vitals.mutable_status()->set_groups(static_cast<uint32_t>(groups));
  vitals.mutable_status()->set_members(ranks);
  vitals.mutable_status()->set_rounds_completed(9000);
  for (int i = 0; i < groups; ++i) {
    v1::GroupReport* group = vitals.add_groups();
    group->set_name(absl::StrCat("group", i));
    group->set_epoch(3);
    group->set_state("running");
    group->mutable_recent()->set_seconds(60);
    group->mutable_recent()->set_rounds_per_s(100.5 + i);
    group->mutable_recent()->set_p50_s(0.0012);
    group->mutable_recent()->set_p99_s(0.0123);
    for (uint32_t rank = 0; rank < ranks; ++rank) {
      v1::MemberReport* member = group->add_members();
      member->set_rank(rank);
      member->set_state("here");
      member->set_host(absl::StrCat("h", rank));
      member->set_pid(100 + rank);
      member->set_recent_rounds(600);
      member->set_recent_last(rank == 2 ? 570 : 15);
      member->set_recent_late_mean_s(rank == 2 ? 0.0452 : 0.00003);
    }
  }
  return vitals;
}

std::vector<std::string> LinesOf(const std::string& frame) {
  std::vector<std::string> lines = absl::StrSplit(frame, '\n');
  EXPECT_EQ(lines.back(), "") << "the last line is ended";
  lines.pop_back();
  return lines;
}

TEST(CtlTopFrameTest, TellsRatesLatencyAndWhoIsLate) {
  const std::string frame = TopFrame("here:7070", Example(), {});
  EXPECT_THAT(frame, AllOf(StartsWith("syncnorm 0.1.0 at here:7070, up 2.0 h\n"),
                           HasSubstr("1 groups, 3 members, 100.5 rounds/s; 0 open; 9000 complete"),
                           HasSubstr("group0                    3  running      3/3     100.5  "
                                     "   1.2 ms    12.3 ms\n"),
                           HasSubstr("group0                    2   95.0%    45.2 ms  here     h2 "
                                     "pid 102\n")));
  EXPECT_LT(frame.find("h2 pid 102"), frame.find("h0 pid 100")) << "the latest first";
}

TEST(CtlTopFrameTest, WhoIsNotThereComesBeforeWhoIsLate) {
  v1::VitalsReply vitals = Example();
  vitals.mutable_groups(0)->mutable_members(1)->set_state("lost");
  const std::string frame = TopFrame("a", vitals, {});
  EXPECT_LT(frame.find("h1 pid 101"), frame.find("h2 pid 102"));
  EXPECT_THAT(frame, HasSubstr("    2/3  "));
}

TEST(CtlTopFrameTest, OpenRoundsAndFailuresAreTold) {
  v1::VitalsReply vitals = Example();
  v1::OpenRoundReport* open = vitals.mutable_groups(0)->add_open();
  open->set_open_s(4);
  open->mutable_key()->set_round(42);
  open->mutable_key()->set_layer("bn2");
  open->mutable_key()->set_direction("forward");
  open->mutable_key()->set_step(7);
  open->add_missing(1);
  open->set_missing_count(1);
  v1::FailureReport* failure = vitals.add_failures();
  failure->set_ended_s(65);
  failure->set_text("group \"w\" round 3: rank 1 did not contribute");
  vitals.set_draining(true);
  vitals.mutable_security()->set_insecure(true);
  EXPECT_THAT(TopFrame("a", vitals, {}),
              AllOf(HasSubstr("for 4.0 s: waits for rank 1: round 42 bn2 (forward, step 7)\n"),
                    HasSubstr("   65.0 s ago  group \"w\" round 3: rank 1 did not contribute\n"),
                    HasSubstr(", DRAINING, INSECURE\n")));
}

TEST(CtlTopFrameTest, NoRoundYetIsNoLatency) {
  v1::VitalsReply vitals = Example();
  vitals.mutable_groups(0)->clear_recent();
  EXPECT_THAT(TopFrame("a", vitals, {}), HasSubstr("       0.0          -          -\n"));
}

TEST(CtlTopFrameTest, FitsEveryWindow) {
  v1::VitalsReply vitals = Example(30, 20);
  for (int i = 0; i < 30; ++i) {
    vitals.add_failures()->set_text(std::string(300, 'x'));
    vitals.mutable_groups(i)->add_open()->set_open_s(i);
    vitals.mutable_groups(i)->set_name(std::string(60, 'n'));
  }
  for (size_t height = 1; height <= 60; ++height) {
    for (const size_t width : {1, 20, 80, 200}) {
      const std::vector<std::string> lines = LinesOf(TopFrame("a", vitals, {width, height}));
      EXPECT_LE(lines.size(), height);
      EXPECT_GE(lines.size(), std::min<size_t>(height, 2));
      for (const std::string& line : lines) EXPECT_LE(line.size(), width);
    }
  }
}

TEST(CtlTopFrameTest, UsesTheWholeWindowAndCountsWhatHasNoRoom) {
  v1::VitalsReply vitals = Example(30, 3);
  for (int i = 0; i < 9; ++i) vitals.add_failures()->set_text("failure");
  const std::string frame = TopFrame("a", vitals, {80, 24});
  EXPECT_THAT(LinesOf(frame), SizeIs(24));
  EXPECT_THAT(frame, AllOf(HasSubstr("group29"), HasSubstr("... 26 more groups\n"),
                           HasSubstr("more members\n"), HasSubstr("more failures\n")))
      << frame;
  EXPECT_THAT(TopFrame("a", vitals, {}), Not(HasSubstr("... "))) << "without bounds";
}

TEST(CtlTopFrameTest, NamesCannotSteerTheTerminal) {
  v1::VitalsReply vitals = Example();
  vitals.mutable_groups(0)->set_name("\x1b[2Jg");
  vitals.mutable_groups(0)->mutable_members(2)->set_host("h\n\x1b");
  vitals.add_failures()->set_text("f\x1b[1m");
  vitals.mutable_groups(0)->add_open()->mutable_key()->set_layer("l\x1b");
  EXPECT_THAT(TopFrame("a", vitals, {}), Not(HasSubstr("\x1b")));
}

TEST(CtlTopFrameTest, ACoordinatorThatCannotBeReachedIsSaidSo) {
  EXPECT_EQ(TopFrameWithout("a:1: refused", 2, {}),
            "cannot reach a:1: refused\ntries again every 2.0 s\n");
  EXPECT_EQ(TopFrameWithout("a:1: refused", 2, {10, 1}), "cannot re~\n");
}

}  // namespace
}  // namespace syncnorm::server
