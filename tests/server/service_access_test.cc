// Who is let in, over real streams on loopback.

#include "server/service_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "proto/clock.h"
#include "server/log.h"
#include "server/server.h"
#include "tests/server/test_worker.h"
#include "tests/server/token_lines.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class ServiceAccessTest : public ::testing::Test {
 protected:
  ServiceAccessTest() {
    WriteTokens(TokenLine("a-secret", "worker", "team-a/*"));
    ServerOptions options;
    options.listen = *ListenAddress::Parse("127.0.0.1:0");
    options.security.tokens = folder_.path("tokens");
    options.security.reload_interval = absl::Milliseconds(1);
    auto server = Server::Start(options);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    CaptureStderr();
  }
  ~ServiceAccessTest() override {
    server_->Drain(absl::ZeroDuration());
    EXPECT_THAT(GetCapturedStderr(), Not(HasSubstr("secret"))) << "a token is in the log";
  }

  void WriteTokens(const std::string& first, const std::string& second = "") const {
    folder_.Write("tokens", first + "\n" + second + "\n" +
                                TokenLine("b-secret", "worker", "team-b/*") + "\n");
  }
  std::unique_ptr<TestWorker> Worker(const std::string& token) const {
    return std::make_unique<TestWorker>(server_->address(), token);
  }
  static wire::Join JoinOf(const TestWorker& worker, const std::string& group, uint32_t rank = 0,
                           uint32_t world_size = 1) {
    wire::Join join = worker.MakeJoin(rank, world_size);
    join.group = group;
    return join;
  }
  // What a worker is told that asks for the group.
  Failure Told(const std::string& token, const std::string& group) const {
    const auto worker = Worker(token);
    worker->Send(JoinOf(*worker, group));
    const Failure failure = worker->ReadFailure();
    EXPECT_EQ(worker->ReadToEnd(), "");
    EXPECT_TRUE(worker->Finish().ok()) << "the reason is in the stream";
    EXPECT_THAT(failure.text, Not(HasSubstr("secret")));
    return failure;
  }

  const syncnorm::testing::TestFolder folder_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServiceAccessTest, TheRightTokenJoinsAndReduces) {
  const auto worker = Worker("a-secret");
  worker->Send(JoinOf(*worker, "team-a/x"));
  worker->ReadJoined();
  worker->Contribute(1, 3);
  EXPECT_EQ(worker->ReadResult().moments.values[0], 3);
  EXPECT_EQ(server_->security().refusals.total(), 0U);
}

TEST_F(ServiceAccessTest, NoTokenAndAWrongOneAreToldSoInTheStream) {
  Failure failure = Told("", "team-a/x");
  EXPECT_EQ(failure.code, absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(failure.text, HasSubstr("none was sent"));
  failure = Told("wrong-secret", "team-a/x");
  EXPECT_EQ(failure.code, absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(failure.text, HasSubstr("not known here"));
  const Access::Refusals refusals = server_->security().refusals;
  EXPECT_EQ(refusals.no_token, 1U);
  EXPECT_EQ(refusals.unknown, 1U);
  EXPECT_EQ(server_->snapshot().streams, 0U) << "the core has not heard of them";
}

TEST_F(ServiceAccessTest, AStrangerLearnsNothingOfAGroup) {
  const std::string absent = Told("a-secret", "team-b/x").text;
  const auto member = Worker("b-secret");
  member->Send(JoinOf(*member, "team-b/x", 0, 2));  // it forms
  while (server_->snapshot().groups == 0) std::this_thread::yield();
  const Failure forming = Told("a-secret", "team-b/x");
  EXPECT_EQ(forming.code, absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(forming.text, absent);
  const auto other = Worker("b-secret");
  other->Send(JoinOf(*other, "team-b/x", 1, 2));
  member->ReadJoined();
  const Failure running = Told("a-secret", "team-b/x");
  EXPECT_EQ(running.text, absent);
  EXPECT_TRUE(running.hosts.empty());
  EXPECT_TRUE(running.ranks.empty());
  EXPECT_EQ(server_->security().refusals.group, 3U);
  other->ReadJoined();
  member->Contribute(1, 1);
  other->Contribute(1, 1);
  EXPECT_EQ(member->ReadResult().moments.values[0], 2) << "the members did not notice";
}

TEST_F(ServiceAccessTest, ATokenThatIsTakenBackEndsItsStreamAndNamesTheMemberToTheOthers) {
  WriteTokens(TokenLine("a-secret", "worker", "team-a/*"),
              TokenLine("a2-secret", "worker", "team-a/*"));
  while (server_->security().reloads == 0) std::this_thread::yield();
  const auto stays = Worker("a-secret");
  const auto goes = Worker("a2-secret");
  stays->Send(JoinOf(*stays, "team-a/x", 0, 2));
  goes->Send(JoinOf(*goes, "team-a/x", 1, 2));
  stays->ReadJoined();
  goes->ReadJoined();
  WriteTokens(TokenLine("a-secret", "worker", "team-a/*"));
  const Failure told = goes->ReadFailure();
  EXPECT_EQ(told.code, absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(told.text, "group team-a/x: the token was taken back");
  EXPECT_EQ(goes->ReadToEnd(), "");
  const Failure others = stays->ReadFailure();
  EXPECT_EQ(others.ranks, std::vector<uint32_t>{1});
  EXPECT_THAT(others.text, HasSubstr("was cut off: the token was taken back"));
  EXPECT_EQ(server_->security().refusals.revoked, 1U);
}

TEST_F(ServiceAccessTest, ATokenThatEndsEndsItsStream) {
  const std::string end = absl::FormatTime(absl::RFC3339_full, WallClock().Now() + absl::Seconds(2),
                                           absl::UTCTimeZone());
  WriteTokens(TokenLine("a-secret", "worker", "team-a/*", end));
  while (server_->security().reloads == 0) std::this_thread::yield();
  const auto worker = Worker("a-secret");
  worker->Send(JoinOf(*worker, "team-a/x"));
  worker->ReadJoined();
  const Failure told = worker->ReadFailure();
  EXPECT_EQ(told.code, absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(told.text, AllOf(HasSubstr("the token expired: not_after"), HasSubstr("time 20")));
  EXPECT_EQ(Told("a-secret", "team-a/x").code, absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(server_->security().refusals.expired, 2U);
}

TEST_F(ServiceAccessTest, TheLogNamesThePeerAndIsLimitedInRate) {
  for (int i = 0; i < 60; ++i) Told("wrong-secret", "team-a/x");
  const std::string log = GetCapturedStderr();
  CaptureStderr();
  EXPECT_THAT(log, HasSubstr("refused ipv4:127.0.0.1:"));
  size_t lines = 0;
  for (size_t at = log.find("refused"); at != std::string::npos; at = log.find("refused", at + 1)) {
    ++lines;
  }
  EXPECT_LT(lines, 60U);
  EXPECT_GE(lines, 20U);
  EXPECT_EQ(server_->security().refusals.unknown, 60U) << "each is counted";
  EXPECT_THAT(log, Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace syncnorm::server
