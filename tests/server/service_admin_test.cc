// The Admin calls beside workers that reduce.

#include "server/service_admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/server.h"
#include "syncnorm/v1/admin.grpc.pb.h"
#include "tests/server/test_worker.h"

namespace syncnorm::server {
namespace {

class ServiceAdminTest : public testing::Test {
 protected:
  ServiceAdminTest() {
    ServerOptions options;
    options.listen = *ListenAddress::Parse("127.0.0.1:0");
    options.settings.coordinator_id = 77;
    server_ = *Server::Start(options);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::Admin::NewStub(channel_);
  }

  static void Limit(grpc::ClientContext* context) {
    context->set_deadline(
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(20, GPR_TIMESPAN)));
  }
  grpc::Status Ask(const std::string& group, uint32_t rounds, v1::ReportReply* reply) {
    grpc::ClientContext context;
    Limit(&context);
    v1::ReportRequest request;
    request.set_group(group);
    request.set_rounds(rounds);
    return stub_->Report(&context, request, reply);
  }
  grpc::Status AskVitals(const std::string& group, v1::VitalsReply* reply) {
    grpc::ClientContext context;
    Limit(&context);
    v1::VitalsRequest request;
    request.set_group(group);
    request.set_timeline(true);
    return stub_->Vitals(&context, request, reply);
  }
  v1::StatusReply AskStatus() {
    grpc::ClientContext context;
    Limit(&context);
    v1::StatusReply reply;
    const grpc::Status status = stub_->Status(&context, {}, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
  }
  bool Waits() { return AskStatus().open_rounds() > 0; }
  void Reduce(TestPair* pair, uint64_t round) {
    pair->Reduce(round, [this] { return Waits(); });
  }

  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Admin::Stub> stub_;
};

TEST_F(ServiceAdminTest, TellsWhoWasLastWhileTheGroupRuns) {
  TestPair pair(server_->address());
  for (uint64_t round = 1; round <= 4; ++round) Reduce(&pair, round);
  v1::ReportReply reply;
  ASSERT_TRUE(Ask("world", 2, &reply).ok());
  EXPECT_EQ(reply.coordinator_id(), 77u);
  ASSERT_EQ(reply.groups_size(), 1);
  const v1::GroupReport& group = reply.groups(0);
  EXPECT_EQ(group.members(1).last(), 4);
  EXPECT_GT(group.members(1).late_max_s(), 0);
  EXPECT_EQ(group.members(0).last(), 0);
  EXPECT_EQ(group.rounds_size(), 2);
  EXPECT_EQ(group.rounds(0).key().round(), 4);
  EXPECT_EQ(group.layers(0).last(0).rank(), 1u);
  Reduce(&pair, 5);
}

TEST_F(ServiceAdminTest, StatusCountsWhatThereIs) {
  TestWorker a(server_->address());
  a.Join(0, 1);
  a.ReadJoined();
  a.Contribute(1);
  a.ReadResult();
  const v1::StatusReply status = AskStatus();
  EXPECT_EQ(status.coordinator_id(), 77u);
  EXPECT_EQ(status.groups(), 1u);
  EXPECT_EQ(status.members(), 1u);
  EXPECT_EQ(status.rounds_completed(), 1);
  EXPECT_EQ(status.epochs(), 1);
}

TEST_F(ServiceAdminTest, VitalsAreTheSameFiguresAsTheReportAndTheStatus) {
  TestPair pair(server_->address());
  for (uint64_t round = 1; round <= 3; ++round) Reduce(&pair, round);
  v1::VitalsReply vitals;
  ASSERT_TRUE(AskVitals("", &vitals).ok());
  EXPECT_EQ(vitals.status().rounds_completed(), 3);
  EXPECT_EQ(vitals.status().contributions(), 6);
  EXPECT_EQ(vitals.version(), SYNCNORM_VERSION);
  EXPECT_GT(vitals.up_s(), 0);
  EXPECT_FALSE(vitals.draining());
  EXPECT_FALSE(vitals.security().tls());
  EXPECT_FALSE(vitals.security().has_certificate_left_s());
  EXPECT_EQ(vitals.failures_size(), 0);
  ASSERT_EQ(vitals.groups_size(), 1);
  const v1::GroupReport& group = vitals.groups(0);
  EXPECT_EQ(group.rounds_size(), 0) << "ended rounds are for reports";
  EXPECT_EQ(group.counters().completed(), 3);
  EXPECT_EQ(group.durations().rounds(), 3);
  EXPECT_GT(group.durations().sum_s(), 0);
  EXPECT_EQ(group.members(1).recent_last(), 3);
  EXPECT_EQ(group.members(1).recent_rounds(), 3);
  EXPECT_NEAR(group.members(1).late_s(), group.durations().sum_s(), 1e-9);
  EXPECT_NEAR(group.members(1).recent_late_mean_s(), group.members(1).late_mean_s(), 1e-6);
  EXPECT_GT(group.recent().rounds_per_s(), 0);
  EXPECT_TRUE(group.recent().has_p99_s());

  v1::ReportReply report;
  ASSERT_TRUE(Ask("world", 1, &report).ok());
  EXPECT_EQ(report.groups(0).durations().SerializeAsString(),
            group.durations().SerializeAsString());
  EXPECT_EQ(AskVitals("nobody", &vitals).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServiceAdminTest, VitalsKeepTheFailuresOfGroupsThatAreNoMore) {
  {
    TestPair pair(server_->address());
    pair.a.Contribute(1);
    while (!Waits()) std::this_thread::yield();
    pair.b.Cancel();
    pair.a.ReadFailure();
  }
  while (AskStatus().groups() > 0) std::this_thread::yield();
  v1::VitalsReply vitals;
  ASSERT_TRUE(AskVitals("", &vitals).ok());
  ASSERT_EQ(vitals.failures_size(), 1);
  EXPECT_EQ(vitals.failures(0).group(), "world");
  EXPECT_THAT(vitals.failures(0).text(), testing::HasSubstr("rank 1"));
  EXPECT_GE(vitals.failures(0).ended_s(), 0);
}

TEST_F(ServiceAdminTest, ACoordinatorThatIsPartOfAnotherProgramIsNotDrained) {
  grpc::ClientContext context;
  Limit(&context);
  v1::DrainReply reply;
  const grpc::Status status = stub_->Drain(&context, {}, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(status.error_message(),
            "this coordinator is part of another program, and ends with it");
}

TEST_F(ServiceAdminTest, AGroupThatIsNotThereIsNotFoundAndNoOtherIsNamed) {
  TestWorker a(server_->address());
  a.Join(0, 1);
  a.ReadJoined();
  v1::ReportReply reply;
  const grpc::Status status = Ask("secret", 0, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no group \"secret\"");
  EXPECT_TRUE(Ask("", 0, &reply).ok());
  EXPECT_EQ(reply.groups_size(), 1);
}

TEST_F(ServiceAdminTest, ARequestThatIsTooLargeIsRefusedAndTheNextOneIsServed) {
  v1::ReportReply reply;
  std::string name;
  name.resize(100'000, 'x');
  const grpc::Status status = Ask(name, 0, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(Ask("", 0, &reply).ok());
}

TEST_F(ServiceAdminTest, ManyCallersAreAllAnswered) {
  std::vector<std::unique_ptr<TestWorker>> workers;
  for (uint32_t i = 0; i < 20; ++i) {
    workers.push_back(std::make_unique<TestWorker>(server_->address()));
    wire::Join join = workers.back()->MakeJoin(0, 1);
    join.group = absl::StrCat("group", i);
    workers.back()->Send(join);
    workers.back()->ReadJoined();
  }
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([this] {
      for (int call = 0; call < 5; ++call) {
        v1::ReportReply reply;
        const grpc::Status status = Ask("", 0, &reply);
        EXPECT_TRUE(status.ok()) << status.error_message();
        EXPECT_EQ(reply.groups_size(), 20);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST_F(ServiceAdminTest, TheServerStopsWhileCallersAsk) {
  std::vector<std::thread> callers;
  std::atomic<int> answered = 0;
  std::atomic<bool> stopped = false;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      while (!stopped) {
        v1::ReportReply reply;
        if (Ask("", 0, &reply).ok()) ++answered;
      }
    });
  }
  while (answered < 20) std::this_thread::yield();
  server_.reset();
  stopped = true;
  for (std::thread& caller : callers) caller.join();
}

TEST_F(ServiceAdminTest, ACallerThatGoesAwayDoesNotKeepTheNextOneWaiting) {
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    auto call = stub_->AsyncReport(&context, {}, &queue);
    v1::ReportReply reply;
    grpc::Status status;
    call->Finish(&reply, &status, &queue);
    context.TryCancel();
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
  }
  v1::ReportReply reply;
  EXPECT_TRUE(Ask("", 0, &reply).ok());
}

}  // namespace
}  // namespace syncnorm::server
