// What Prometheus reads.

#include "server/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace syncnorm::server {
namespace {

using testing::Contains;
using testing::Key;
using testing::Not;

// Series, as they are written, and their values.  A series that is told twice fails the test.
std::map<std::string, double> Read(const std::string& text) {
  std::map<std::string, double> series;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    if (line[0] == '#') continue;
    const size_t space = line.rfind(' ');
    double value = 0;
    EXPECT_TRUE(absl::SimpleAtod(line.substr(space + 1), &value)) << line;
    EXPECT_TRUE(series.emplace(line.substr(0, space), value).second) << "twice: " << line;
  }
  return series;
}

Report::Group Named(const std::string& name) {
  Report::Group group;
  group.name = name;
  group.state = "running";
  for (uint32_t rank = 0; rank < 3; ++rank) {
    Report::Member& member = group.members.emplace_back();
    member.rank = rank;
    member.state = rank == 2 ? "away" : "here";
    member.lateness.late.Add(absl::Milliseconds(10) * rank);
    member.lateness.last = rank;
    member.lateness.missed = 7;
  }
  group.layers.push_back(
      {"bn1", Direction::kForward, 5, absl::Seconds(2), absl::Seconds(1), {}, {}});
  group.layers.back().drift = Drift::Entry{.shift = 0.5, .spread = 0.25, .rank = 1};
  group.layers.push_back(
      {"bn1", Direction::kBackward, 4, absl::Seconds(1), absl::Seconds(1), {}, {}});
  group.counters.completed = 9;
  group.counters.failed = 1;
  group.counters.durations.Add(absl::Milliseconds(3));
  group.counters.durations.Add(absl::Minutes(1));
  return group;
}

Vitals OfGroups(std::vector<Report::Group> groups) {
  Vitals vitals;
  vitals.version = "1.2.3";
  vitals.report.groups = std::move(groups);
  return vitals;
}

TEST(MetricsTest, TellsTheCountersOfTheWholeCoordinator) {
  Vitals vitals = OfGroups({});
  Snapshot& now = vitals.status.snapshot;
  now.streams = 4;
  now.draining = true;
  now.rounds.completed = 1'234'567'890'123;
  now.rounds.failed_by[static_cast<size_t>(absl::StatusCode::kDeadlineExceeded)] = 3;
  now.rounds.durations.Add(absl::Milliseconds(3));
  vitals.status.dumps_failed = 2;
  vitals.log_dropped = 5;
  const auto series = Read(MetricsText(vitals));
  EXPECT_EQ(series.at("syncnorm_streams"), 4);
  EXPECT_EQ(series.at("syncnorm_draining"), 1);
  EXPECT_EQ(series.at("syncnorm_log_dropped_total"), 5);
  EXPECT_EQ(series.at("syncnorm_rounds_total"), 1'234'567'890'123);
  EXPECT_EQ(series.at("syncnorm_rounds_failed_total{code=\"DEADLINE_EXCEEDED\"}"), 3);
  EXPECT_EQ(series.at("syncnorm_rounds_failed_total{code=\"ABORTED\"}"), 0)
      << "a series that begins with 1 has no increase for Prometheus";
  EXPECT_EQ(series.at("syncnorm_round_seconds_bucket{le=\"0.002\"}"), 0);
  EXPECT_EQ(series.at("syncnorm_round_seconds_bucket{le=\"0.005\"}"), 1);
  EXPECT_EQ(series.at("syncnorm_round_seconds_bucket{le=\"+Inf\"}"), 1);
  EXPECT_EQ(series.at("syncnorm_round_seconds_sum"), 0.003);
  EXPECT_EQ(series.at("syncnorm_dumps_total{result=\"failed\"}"), 2);
}

TEST(MetricsTest, TellsTheProcess) {
  const auto series = Read(MetricsText(OfGroups({})));
  EXPECT_GT(series.at("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(series.at("process_open_fds"), 2);
  EXPECT_GT(series.at("process_max_fds"), series.at("process_open_fds"));
  EXPECT_GT(series.at("process_cpu_seconds_total"), 0);
  const double now = absl::ToDoubleSeconds(WallClock().Now() - absl::UnixEpoch());
  EXPECT_NEAR(series.at("process_start_time_seconds"), now, 60);
}

TEST(MetricsTest, TellsSecurity) {
  Vitals vitals = OfGroups({});
  EXPECT_THAT(Read(MetricsText(vitals)),
              Not(Contains(Key("syncnorm_certificate_not_after_seconds"))));
  vitals.security.tls = true;
  vitals.security.insecure = true;
  vitals.security.certificate_not_after = absl::FromUnixSeconds(2'000'000'000);
  vitals.security.refusals.unknown = 3;
  vitals.security.reload_failures = 4;
  const auto series = Read(MetricsText(vitals));
  EXPECT_EQ(series.at("syncnorm_certificate_not_after_seconds"), 2'000'000'000);
  EXPECT_EQ(series.at("syncnorm_insecure"), 1);
  EXPECT_EQ(series.at("syncnorm_refused_total{reason=\"unknown\"}"), 3);
  EXPECT_EQ(series.at("syncnorm_reloads_total{result=\"failed\"}"), 4);
}

TEST(MetricsTest, TellsGroupsRanksAndLayersApart) {
  const auto series = Read(MetricsText(OfGroups({Named("world"), Named("half")})));
  EXPECT_EQ(series.at("syncnorm_group_rounds_total{group=\"half\"}"), 9);
  EXPECT_EQ(series.at("syncnorm_group_rounds_failed_total{group=\"world\"}"), 1);
  EXPECT_EQ(series.at("syncnorm_group_members{group=\"world\",state=\"here\"}"), 2);
  EXPECT_EQ(series.at("syncnorm_group_members{group=\"world\",state=\"away\"}"), 1);
  EXPECT_EQ(series.at("syncnorm_group_members{group=\"world\",state=\"lost\"}"), 0);
  EXPECT_EQ(series.at("syncnorm_group_round_seconds_count{group=\"world\"}"), 2);
  EXPECT_EQ(series.at("syncnorm_group_round_seconds_bucket{group=\"world\",le=\"10\"}"), 1);
  EXPECT_EQ(series.at("syncnorm_rank_last_total{group=\"world\",rank=\"2\"}"), 2);
  EXPECT_EQ(series.at("syncnorm_rank_late_seconds_total{group=\"world\",rank=\"2\"}"), 0.02);
  EXPECT_EQ(series.at("syncnorm_rank_missed_total{group=\"world\",rank=\"0\"}"), 7);
  EXPECT_EQ(series.at("syncnorm_layer_rounds_total{direction=\"backward\",group=\"world\","
                      "layer=\"bn1\"}"),
            4);
  EXPECT_EQ(series.at("syncnorm_layer_shift{group=\"world\",layer=\"bn1\"}"), 0.5);
  EXPECT_EQ(series.at("syncnorm_layer_spread{group=\"world\",layer=\"bn1\"}"), 0.25);
}

TEST(MetricsTest, OfTwoGroupsOfANameTheLaterIsTold) {
  Report::Group ending = Named("world");
  ending.counters.completed = 1000;
  const auto series = Read(MetricsText(OfGroups({ending, Named("world")})));
  EXPECT_EQ(series.at("syncnorm_group_rounds_total{group=\"world\"}"), 9);
}

TEST(MetricsTest, WhatIsBeyondTheLimitsIsToldAsOne) {
  const MetricLimits limits = {.groups = 2, .ranks = 4, .layers = 3};
  const auto series =
      Read(MetricsText(OfGroups({Named("a"), Named("b"), Named("c"), Named("d")}), limits));
  EXPECT_EQ(series.at("syncnorm_group_rounds_total{group=\"b\"}"), 9);
  EXPECT_EQ(series.at("syncnorm_group_rounds_total{group=\"(others)\"}"), 18);
  EXPECT_THAT(series, Not(Contains(Key("syncnorm_group_rounds_total{group=\"c\"}"))));
  // Three of a, one of b; then two of b, and six of the others.
  EXPECT_EQ(series.at("syncnorm_rank_missed_total{group=\"b\",rank=\"0\"}"), 7);
  EXPECT_EQ(series.at("syncnorm_rank_missed_total{group=\"b\",rank=\"(others)\"}"), 14);
  EXPECT_EQ(series.at("syncnorm_rank_missed_total{group=\"(others)\",rank=\"(others)\"}"), 42);
  EXPECT_EQ(series.at("syncnorm_layer_rounds_total{direction=\"backward\",group=\"b\","
                      "layer=\"(others)\"}"),
            4);
  // A gauge is not summed.
  EXPECT_EQ(series.at("syncnorm_layer_shift{group=\"(others)\",layer=\"(others)\"}"), 0.5);
  EXPECT_EQ(series.at("syncnorm_group_round_seconds_bucket{group=\"(others)\",le=\"0.005\"}"), 2);
}

TEST(MetricsTest, TheNumberOfSeriesIsBounded) {
  std::vector<Report::Group> groups;
  for (int i = 0; i < 300; ++i) {
    Report::Group group = Named(absl::StrCat("group", i));
    for (int layer = 0; layer < 100; ++layer) {
      group.layers.push_back({absl::StrCat("bn", layer), Direction::kForward, 1, {}, {}, {}, {}});
      group.layers.back().drift = Drift::Entry{.shift = 1};
    }
    group.members.resize(100);
    for (uint32_t rank = 0; rank < 100; ++rank) group.members[rank].rank = rank;
    groups.push_back(std::move(group));
  }
  const std::string text = MetricsText(OfGroups(std::move(groups)));
  EXPECT_LT(Read(text).size(), 13'000u);
  EXPECT_LT(text.size(), 2u << 20);
}

TEST(MetricsTest, NamesOfPeersCannotBreakOut) {
  Report::Group group = Named("a\"} 1\nevil{x=\"\\");
  const std::string text = MetricsText(OfGroups({group}));
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    EXPECT_FALSE(absl::StartsWith(line, "evil")) << line;
  }
  EXPECT_EQ(Read(text).at("syncnorm_group_rounds_total{group=\"a\\\"} 1\\nevil{x=\\\"\\\\\"}"), 9);
}

}  // namespace
}  // namespace syncnorm::server
