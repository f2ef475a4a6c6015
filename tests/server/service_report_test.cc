// Reports as messages and as JSON.

#include "server/service_report.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "proto/admin_json.h"
#include "syncnorm/v1/admin.pb.h"

namespace syncnorm::server {
namespace {

const absl::Time kNow = absl::UnixEpoch() + absl::Hours(1);

Report Example() {
  Report report;
  report.why = "a test";
  report.coordinator_id = uint64_t{1} << 60 | 1;
  report.now = kNow;
  Report::Group& group = report.groups.emplace_back();
  group.name = "world";
  group.epoch = 3;
  group.state = "running";
  group.members = {{0, "here", "h0", 100, absl::Milliseconds(500), {}, {}},
                   {1, "absent", "", 0, absl::InfiniteDuration(), {}, {}}};
  Lateness::Rank& lateness = group.members[0].lateness;
  for (int i = 0; i < 10; ++i) lateness.late.Add(absl::Milliseconds(2.5));
  lateness.last = 9;
  lateness.missed = 2;
  lateness.max = absl::Milliseconds(20);
  group.layers = {
      {"bn1", Direction::kBackward, 10, absl::Seconds(2), absl::Seconds(1), {{0, 9}}, {}}};
  Report::OpenRound& open = group.open.emplace_back();
  open.key = {3, 42, "bn2", Direction::kForward, 7};
  open.open = absl::Seconds(4);
  open.contributed = {0};
  open.contributed_count = 1;
  open.missing = {1, 2};
  open.missing_count = 1000;
  FlightRecorder::Entry entry;
  entry.key = {3, 41, "bn1", Direction::kNone, 6};
  entry.opened = kNow - absl::Seconds(70);
  entry.ended = kNow - absl::Seconds(10);
  entry.arrivals = 2;
  entry.first_rank = 1;
  entry.last_rank = 0;
  entry.wait = absl::Seconds(30);
  entry.code = absl::StatusCode::kDeadlineExceeded;
  entry.text = "too late";
  entry.missing = {2};
  entry.missing_count = 1;
  entry.bytes = 99;
  group.rounds = {entry};
  return report;
}

TEST(ServiceReportTest, JsonHasNumbersForAllThatIsComparedAndNamesAsInTheProto) {
  const nlohmann::json json = nlohmann::json::parse(ToJson(Example()));
  EXPECT_EQ(json["why"], "a test");
  const nlohmann::json& group = json["groups"][0];
  EXPECT_EQ(group["name"], "world");
  EXPECT_EQ(group["epoch"], 3);
  const nlohmann::json& member = group["members"][0];
  EXPECT_EQ(member["last"], 9);
  EXPECT_EQ(member["missed"], 2);
  EXPECT_EQ(member["late_mean_s"], 0.0025);
  EXPECT_EQ(member["late_max_s"], 0.02);
  EXPECT_EQ(member["heard_s"], 0.5);
  EXPECT_EQ(member["late"].size(), LatenessHistogram::kBuckets);
  EXPECT_EQ(member["late"][3]["within_s"], 0.005);
  EXPECT_EQ(member["late"][3]["rounds"], 10);
  EXPECT_FALSE(member["late"][LatenessHistogram::kBuckets - 1].contains("within_s"));
  EXPECT_FALSE(group["members"][1].contains("heard_s"));
  EXPECT_EQ(group["members"][1]["rank"], 1);
  EXPECT_EQ(group["members"][1]["late_mean_s"], 0);
  EXPECT_EQ(group["layers"][0]["direction"], "backward");
  EXPECT_EQ(group["layers"][0]["wait_s"], 2);
  EXPECT_EQ(group["layers"][0]["last"][0]["rank"], 0);
  EXPECT_FALSE(group.contains("other_layers"));
  EXPECT_EQ(group["open"][0]["missing_count"], 1000);
  EXPECT_EQ(group["open"][0]["key"]["layer"], "bn2");
  const nlohmann::json& round = group["rounds"][0];
  EXPECT_EQ(round["key"]["round"], 41);
  EXPECT_EQ(round["ended_s"], 10);
  EXPECT_EQ(round["open_s"], 60);
  EXPECT_EQ(round["first_rank"], 1);
  EXPECT_EQ(round["last_rank"], 0);
  EXPECT_EQ(round["outcome"], "DEADLINE_EXCEEDED");
  EXPECT_EQ(round["text"], "too late");
  EXPECT_EQ(round["bytes"], 99);
}

TEST(ServiceReportTest, TheFileAndTheAnswerSayTheSame) {
  v1::ReportReply answer;
  ASSERT_TRUE(answer.ParseFromString(ToBytes(Example())));
  EXPECT_EQ(AdminJson(answer), ToJson(Example()));
  v1::ReportReply file;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(ToJson(Example()), &file).ok());
  EXPECT_EQ(file.SerializeAsString(), answer.SerializeAsString());
}

TEST(ServiceReportTest, TheSizeIsNearEnoughToBoundWhatIsSent) {
  Report report = Example();
  Report::Group& group = report.groups[0];
  for (uint64_t i = 0; i < 1000; ++i) {
    group.members.push_back(group.members[0]);
    group.layers.push_back(group.layers[0]);
    group.open.push_back(group.open[0]);
    group.rounds.push_back(group.rounds[0]);
  }
  const auto bytes = static_cast<double>(ToBytes(report).size());
  EXPECT_GT(static_cast<double>(ApproximateBytes(group)), bytes * 0.8);
  EXPECT_LT(static_cast<double>(ApproximateBytes(group)), bytes * 2);
}

}  // namespace
}  // namespace syncnorm::server
