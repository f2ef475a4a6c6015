// What syncnormctl prints.

#include "server/ctl_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

v1::ReportReply Example() {
  v1::ReportReply report;
  v1::GroupReport* group = report.add_groups();
  group->set_name("world");
  group->set_epoch(3);
  group->set_state("running");
  for (uint32_t rank = 0; rank < 3; ++rank) {
    v1::MemberReport* member = group->add_members();
    member->set_rank(rank);
    member->set_state("here");
    member->set_host(absl::StrCat("h", rank));
    member->set_pid(100 + rank);
    member->set_heard_s(0.25);
    member->set_rounds(1000);
    member->set_last(rank == 2 ? 911 : 10);
    member->set_late_mean_s(rank == 2 ? 0.0123 : 0.00004);
    member->set_late_max_s(rank == 2 ? 1.5 : 0.0008);
  }
  for (const char* name : {"quick", "slow"}) {
    v1::LayerReport* layer = group->add_layers();
    layer->set_name(name);
    layer->set_direction("forward");
    layer->set_rounds(500);
    layer->set_wait_s(name[0] == 's' ? 50 : 1);
    layer->set_wait_max_s(1.5);
    v1::LastReport* last = layer->add_last();
    last->set_rank(2);
    last->set_rounds(400);
  }
  return report;
}

TEST(CtlTableTest, TheRankThatWasLastMostOftenComesFirst) {
  const std::string text = Table(Example());
  EXPECT_THAT(text, HasSubstr("group \"world\" epoch 3, running: 3 members, 1000 rounds\n"));
  EXPECT_LT(text.find("h2 pid 102"), text.find("h0 pid 100"));
  EXPECT_THAT(text,
              HasSubstr("      2      91.1%     12.3 ms      1.5 s       0  here    250.0 ms"));
  EXPECT_THAT(text, HasSubstr("      0       1.0%       40 us     800 us"));
}

TEST(CtlTableTest, TheLayerThatWaitedTheLongestComesFirstAndNamesItsLast) {
  const std::string text = Table(Example());
  EXPECT_LT(text.find("slow forward"), text.find("quick forward"));
  EXPECT_THAT(text, HasSubstr("100.0 ms      1.5 s     50.0 s  rank 2 80.0%"));
}

TEST(CtlTableTest, OpenAndFailedRoundsSayWhoAndWhy) {
  v1::ReportReply report = Example();
  v1::GroupReport* group = report.mutable_groups(0);
  v1::OpenRoundReport* open = group->add_open();
  open->set_open_s(4);
  open->mutable_key()->set_round(42);
  open->mutable_key()->set_layer("bn2");
  open->mutable_key()->set_direction("forward");
  open->mutable_key()->set_step(7);
  open->add_missing(1);
  open->add_missing(2);
  open->set_missing_count(1000);
  v1::RoundReport* failed = group->add_rounds();
  failed->set_ended_s(10);
  failed->set_open_s(60);
  failed->set_outcome("DEADLINE_EXCEEDED");
  failed->set_text("rank 2 did not contribute");
  group->add_rounds()->set_outcome("complete");
  const std::string text = Table(report);
  EXPECT_THAT(text, HasSubstr("open for 4.0 s: round 42 bn2 (forward, step 7) waits for ranks "
                              "1,2,... (1000)\n"));
  EXPECT_THAT(text, HasSubstr("failed 10.0 s ago, after 60.0 s: DEADLINE_EXCEEDED: rank 2 did not "
                              "contribute\n"));
  EXPECT_THAT(text, Not(HasSubstr("complete")));
}

TEST(CtlTableTest, LongTablesAreCutAndSaySo) {
  v1::ReportReply report = Example();
  v1::GroupReport* group = report.mutable_groups(0);
  for (int i = 0; i < 37; ++i) *group->add_members() = group->members(0);
  for (int i = 0; i < 18; ++i) *group->add_layers() = group->layers(0);
  group->mutable_other_layers()->set_rounds(5);
  report.set_groups_left_out(4);
  const std::string text = Table(report);
  EXPECT_THAT(text, AllOf(HasSubstr("and 8 ranks that were last less"),
                          HasSubstr("and 10 layers that waited less"),
                          HasSubstr("all others, beyond --max_layers"),
                          HasSubstr("4 groups left out; ask for them with --group")));
}

TEST(CtlTableTest, ANameCannotSteerTheTerminal) {
  v1::ReportReply report = Example();
  report.mutable_groups(0)->mutable_layers(0)->set_name("\x1b[2Jbn\n");
  report.mutable_groups(0)->mutable_members(0)->set_host("h\x1b[1m");
  EXPECT_THAT(Table(report), AllOf(Not(HasSubstr("\x1b")), HasSubstr("?[2Jbn?")));
}

TEST(CtlTableTest, NoGroupsIsALine) { EXPECT_EQ(Table(v1::ReportReply()), "no groups\n"); }

TEST(CtlTableTest, StatusIsANumberALineAndHowItIsProtected) {
  v1::VitalsReply vitals;
  vitals.mutable_status()->set_coordinator_id(0xabc);
  vitals.mutable_status()->set_members(8);
  vitals.mutable_status()->set_rounds_failed(3);
  vitals.set_version("0.1.0");
  vitals.set_up_s(90);
  EXPECT_THAT(Table(vitals),
              AllOf(HasSubstr("coordinator 0000000000000abc, version 0.1.0, up 90.0 s\n"),
                    HasSubstr("  members                       8\n"),
                    HasSubstr("  rounds failed                 3\n"),
                    HasSubstr("  no TLS, no tokens\n"), Not(HasSubstr("certificate"))));
  v1::SecurityReport* security = vitals.mutable_security();
  security->set_tls(true);
  security->set_tokens(true);
  security->set_certificate_left_s(86400 * 89.6);
  security->set_reload_failures(2);
  for (const char* reason : {"unknown", "group"}) {
    v1::RefusedReport* refused = security->add_refused();
    refused->set_reason(reason);
    refused->set_calls(reason[0] == 'u' ? 5 : 0);
  }
  vitals.set_draining(true);
  EXPECT_THAT(Table(vitals), AllOf(HasSubstr("up 90.0 s, DRAINING\n"),
                                   HasSubstr("  TLS, tokens\n  its certificate ends in 90 days\n"),
                                   HasSubstr("  failed reloads                2\n"),
                                   HasSubstr("  refused: unknown              5\n"),
                                   Not(HasSubstr("refused: group"))));
  security->set_certificate_left_s(-7200);
  EXPECT_THAT(Table(vitals), HasSubstr("  its certificate ENDED 2.0 h ago\n"));
}

TEST(CtlTableTest, GroupsAreALineEach) {
  v1::VitalsReply vitals;
  *vitals.add_groups() = Example().groups(0);
  v1::GroupReport* group = vitals.mutable_groups(0);
  group->mutable_members(0)->set_state("absent");
  group->mutable_counters()->set_completed(12345);
  group->mutable_counters()->set_failed(6);
  group->mutable_recent()->set_rounds_per_s(120.34);
  group->mutable_recent()->set_p50_s(0.0012);
  group->mutable_recent()->set_p99_s(0.0345);
  v1::GroupReport* forming = vitals.add_groups();
  forming->set_name("a-longer-name");
  forming->set_state("forming");
  vitals.set_groups_left_out(2);
  EXPECT_EQ(GroupsTable(vitals),
            "group           epoch  state    here/of      rounds   failed  rounds/s        p50     "
            "   p99  last\n"
            "world               3  running      2/3       12345        6     120.3     1.2 ms    "
            "34.5 ms  rank 2 91.1%\n"
            "a-longer-name       0  forming      0/0           0        0       0.0          -    "
            "      -  -\n"
            "2 groups left out; ask for them with --group\n");
  EXPECT_EQ(GroupsTable(v1::VitalsReply()), "no groups\n");
}

TEST(CtlTableTest, TheRingIsALineARoundAndAFailuresText) {
  v1::ReportReply report = Example();
  v1::RoundReport* round = report.mutable_groups(0)->add_rounds();
  round->mutable_key()->set_round(41);
  round->mutable_key()->set_layer("bn1");
  round->mutable_key()->set_direction("forward");
  round->mutable_key()->set_step(7);
  round->set_ended_s(2);
  round->set_open_s(0.0123);
  round->set_wait_s(0.0122);
  round->set_arrivals(3);
  round->set_first_rank(0);
  round->set_last_rank(2);
  round->set_outcome("complete");
  v1::RoundReport* failed = report.mutable_groups(0)->add_rounds();
  failed->mutable_key()->set_layer(std::string(50, 'l'));
  failed->set_outcome("DEADLINE_EXCEEDED");
  failed->set_text("rank 1 did not\ncontribute");
  failed->add_missing(1);
  failed->set_missing_count(1);
  EXPECT_THAT(RingTable(report),
              AllOf(HasSubstr("group \"world\" epoch 3, running: 2 ended rounds\n"),
                    HasSubstr("        41  bn1                               forward          7   "
                              "   2.0 s    12.3 ms    12.2 ms     3      0     2  complete\n"),
                    HasSubstr("lll~  "), HasSubstr("      -     -  DEADLINE_EXCEEDED\n"),
                    HasSubstr("missing: rank 1\n"), HasSubstr("rank 1 did not?contribute\n")));
  EXPECT_EQ(RingTable(v1::ReportReply()), "no groups\n");
}

}  // namespace
}  // namespace syncnorm::server
