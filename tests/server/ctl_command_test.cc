// The commands of syncnormctl, asking an Admin service that answers what a test wants, and a real
// coordinator.

#include "server/ctl_command.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/clock.h"
#include "server/server.h"
#include "syncnorm/v1/admin.grpc.pb.h"
#include "tests/server/ctl_run.h"
#include "tests/server/test_worker.h"
#include "tests/server/token_lines.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

void ExpectOneLine(const Ran& ran, const std::string& text) {
  EXPECT_EQ(ran.status, 1);
  EXPECT_EQ(ran.output, "");
  EXPECT_THAT(ran.errors, AllOf(StartsWith("syncnormctl: "), HasSubstr(text)));
  EXPECT_EQ(std::count(ran.errors.begin(), ran.errors.end(), '\n'), 1) << ran.errors;
}

TEST(CtlCommandTest, HelpNamesEveryCommandAndItsFlags) {
  for (const std::vector<std::string>& way :
       {std::vector<std::string>{"help"}, {"--help"}, {"-h"}}) {
    const Ran ran = Ctl(way);
    EXPECT_EQ(ran.status, 0);
    for (const CtlCommand& command : CtlCommands()) {
      EXPECT_THAT(ran.output, HasSubstr(absl::StrCat("\n  ", command.name, " ")));
    }
    EXPECT_THAT(ran.output, HasSubstr("--address  (127.0.0.1:7070; SYNCNORM_ADDR)"));
  }
  for (const CtlCommand& command : CtlCommands()) {
    const Ran ran = Ctl({"help", command.name});
    EXPECT_EQ(ran.status, 0);
    EXPECT_THAT(ran.output, StartsWith(absl::StrCat("syncnormctl ", command.name, ": ")));
    for (const std::string& flag : command.flags) {
      EXPECT_THAT(ran.output, HasSubstr(absl::StrCat("\n  --", flag, "  (")));
    }
    EXPECT_EQ(Ctl({command.name, "--help"}).output, ran.output);
  }
  EXPECT_THAT(Ctl({"--version"}).output, StartsWith("syncnormctl "));
}

TEST(CtlCommandTest, MistakesInTheCommandLineAreOneLine) {
  ExpectOneLine(Ctl({}), "no command; expected status, groups, top, report, ring, health, drain, ");
  ExpectOneLine(Ctl({"nonsense"}), "no command \"nonsense\"; expected status, ");
  ExpectOneLine(Ctl({"--address=x"}), "no command; expected");
  ExpectOneLine(Ctl({"help", "nonsense"}), "no command \"nonsense\"");
  ExpectOneLine(Ctl({"status", "more"}), "status: unexpected argument \"more\"");
  ExpectOneLine(Ctl({"status", "--bogus"}), "status: --bogus is not a flag");
  ExpectOneLine(Ctl({"status", "--rounds=1"}), "status: --rounds is not a flag of this command");
  ExpectOneLine(Ctl({"certs", "--address=x"}), "certs: --address is not a flag of this command");
  ExpectOneLine(Ctl({"top", "--interval=fast"}),
                "top: --interval is \"fast\", expected a duration");
}

TEST(CtlCommandTest, FilesThatCannotBeUsedAreOneLine) {
  const syncnorm::testing::TestFolder folder;
  ExpectOneLine(Ctl({"status", "--tls_dir=/nowhere"}),
                "/nowhere/tls.crt: cannot be read: No such file or directory");
  ExpectOneLine(Ctl({"top", "--tls_ca=/nowhere"}), "/nowhere: cannot be read");
  ExpectOneLine(Ctl({"health", "--tls_ca=" + folder.Write("ca", "x")}), "/ca: ");
  ExpectOneLine(Ctl({"groups", "--token_file=/nowhere"}),
                "--token_file=/nowhere does not hold one");
  ExpectOneLine(Ctl({"groups", "--address=node:1", "--token_file=" + folder.Write("t", "token")}),
                "the token would travel in plaintext to node:1; give --tls_dir");
}

// Answers what the test says.
class FakeAdmin final : public v1::Admin::Service {
 public:
  FakeAdmin() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  std::function<grpc::Status(const v1::VitalsRequest&, v1::VitalsReply*)> vitals;
  std::function<grpc::Status(const v1::ReportRequest&, v1::ReportReply*)> report;
  std::function<grpc::Status(v1::StatusReply*)> status;
  int drains = 0;

 private:
  grpc::Status Vitals(grpc::ServerContext*, const v1::VitalsRequest* request,
                      v1::VitalsReply* reply) override {
    return vitals(*request, reply);
  }
  grpc::Status Report(grpc::ServerContext*, const v1::ReportRequest* request,
                      v1::ReportReply* reply) override {
    return report(*request, reply);
  }
  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest*,
                      v1::StatusReply* reply) override {
    return status(reply);
  }
  grpc::Status Drain(grpc::ServerContext*, const v1::DrainRequest*, v1::DrainReply*) override {
    ++drains;
    return grpc::Status::OK;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

class CtlAsksTest : public ::testing::Test {
 protected:
  CtlAsksTest() {
    fake_.vitals = [this](const v1::VitalsRequest& request, v1::VitalsReply* reply) {
      ++asked_;
      group_ = request.group();
      EXPECT_FALSE(request.timeline()) << "it would be for nothing";
      reply->set_version("0.1.0");
      reply->mutable_status()->set_members(8);
      v1::GroupReport* group = reply->add_groups();
      group->set_name("world");
      group->mutable_recent()->set_rounds_per_s(asked_);
      return grpc::Status::OK;
    };
  }
  Ran Ask(std::vector<std::string> arguments) const {
    arguments.push_back("--address=" + fake_.address());
    return Ctl(arguments);
  }

  FakeAdmin fake_;
  int asked_ = 0;
  std::string group_;
};

TEST_F(CtlAsksTest, StatusAndGroupsAreWhatVitalsTells) {
  EXPECT_THAT(Ask({"status"}).output, HasSubstr("  members                       8\n"));
  const Ran groups = Ask({"groups", "--group=world"});
  EXPECT_EQ(groups.status, 0) << groups.errors;
  EXPECT_THAT(groups.output, HasSubstr("\nworld "));
  EXPECT_EQ(group_, "world");
}

TEST_F(CtlAsksTest, JsonIsTheMessage) {
  const auto status = nlohmann::json::parse(Ask({"status", "--json"}).output);
  EXPECT_EQ(status["status"]["members"], 8);
  EXPECT_THAT(status["groups"], IsEmpty());
  const auto groups = nlohmann::json::parse(Ask({"groups", "--json"}).output);
  EXPECT_EQ(groups["groups"][0]["recent"]["rounds_per_s"], 2);
  const auto top = nlohmann::json::parse(Ask({"top", "--json", "--count=1"}).output);
  EXPECT_EQ(top["groups"][0]["recent"]["rounds_per_s"], 3);
}

TEST_F(CtlAsksTest, TopDrawsAsManyFramesAsItIsToldPlainWhereNoTerminalIs) {
  const Ran top = Ask({"top", "--count=3", "--interval=1ms"});
  EXPECT_EQ(top.status, 0) << top.errors;
  EXPECT_THAT(top.output, Not(HasSubstr("\x1b")));
  EXPECT_THAT(top.output, AllOf(StartsWith("syncnorm 0.1.0 at "), HasSubstr(" 1.0 rounds/s"),
                                HasSubstr(" 2.0 rounds/s"), HasSubstr(" 3.0 rounds/s")));
  EXPECT_EQ(asked_, 3);
}

TEST_F(CtlAsksTest, TopWaitsItsIntervalBetweenFrames) {
  const absl::Time before = MonotonicClock().Now();
  EXPECT_EQ(Ask({"top", "--count=3", "--interval=100ms"}).status, 0);
  EXPECT_GE(MonotonicClock().Now() - before, absl::Milliseconds(200));
}

TEST_F(CtlAsksTest, TopGoesOnWhenTheCoordinatorCannotBeReached) {
  const auto answer = fake_.vitals;
  fake_.vitals = [&](const v1::VitalsRequest& request, v1::VitalsReply* reply) {
    if (asked_++ == 1) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "for a moment");
    --asked_;
    return answer(request, reply);
  };
  const Ran top = Ask({"top", "--count=3", "--interval=1ms"});
  EXPECT_EQ(top.status, 0) << "the last one was answered";
  EXPECT_THAT(top.output,
              AllOf(HasSubstr(" 1.0 rounds/s"),
                    HasSubstr(absl::StrCat("\ncannot reach ", fake_.address(), ": for a moment")),
                    HasSubstr(" 3.0 rounds/s")));
}

TEST_F(CtlAsksTest, TopsLastFrameDecidesItsStatusAndJsonStaysJson) {
  fake_.vitals = [](const v1::VitalsRequest&, v1::VitalsReply*) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "gone");
  };
  EXPECT_EQ(Ask({"top", "--count=2", "--interval=1ms"}).status, 1);
  EXPECT_EQ(Ask({"top", "--json", "--count=1"}).output, "");
}

TEST_F(CtlAsksTest, TopEndsWhereAskingAgainIsOfNoUse) {
  fake_.vitals = [](const v1::VitalsRequest&, v1::VitalsReply*) {
    return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "not you");
  };
  ExpectOneLine(Ask({"top"}), ": not you");
}

TEST_F(CtlAsksTest, RingAsksForAScreenOfRoundsAndTellsNothingElse) {
  uint32_t rounds = 0;
  fake_.report = [&](const v1::ReportRequest& request, v1::ReportReply* reply) {
    rounds = request.rounds();
    v1::GroupReport* group = reply->add_groups();
    group->set_name("world");
    group->add_members()->set_host("h");
    group->add_rounds()->mutable_key()->set_round(41);
    return grpc::Status::OK;
  };
  EXPECT_THAT(Ask({"ring"}).output, AllOf(HasSubstr("group \"world\""), HasSubstr("      41  ")));
  EXPECT_EQ(rounds, 20U);
  const auto json = nlohmann::json::parse(Ask({"ring", "--json", "--rounds=500"}).output);
  EXPECT_EQ(rounds, 500U);
  EXPECT_EQ(json["groups"][0]["name"], "world");
  EXPECT_EQ(json["groups"][0]["rounds"][0]["key"]["round"], 41);
  EXPECT_THAT(json["groups"][0]["members"], IsEmpty());
  EXPECT_THAT(Ask({"report"}).output, HasSubstr("  h pid 0"));
  EXPECT_EQ(rounds, 0U);
}

TEST_F(CtlAsksTest, ErrorsNameTheAddressAndHaveOneLineWhateverTheyHold) {
  fake_.report = [](const v1::ReportRequest&, v1::ReportReply*) {
    return grpc::Status(grpc::StatusCode::INTERNAL, "one\ntwo\x1b[2J");
  };
  ExpectOneLine(Ask({"report"}), fake_.address() + ": one?two?[2J");
  const Ran refused = Ctl({"status", "--address=127.0.0.1:1"});
  ExpectOneLine(refused, "Connection refused (asked in plaintext; with TLS: --tls_dir)");
  EXPECT_THAT(refused.errors, Not(HasSubstr("failed to connect to all addresses")));
}

TEST_F(CtlAsksTest, ACoordinatorThatDoesNotAnswerIsGivenUp) {
  absl::Mutex hold;
  hold.Lock();
  fake_.vitals = [&hold](const v1::VitalsRequest&, v1::VitalsReply*) {
    const absl::MutexLock lock(&hold);
    return grpc::Status::OK;
  };
  ExpectOneLine(Ask({"status", "--timeout=100ms"}), ": no answer within 100ms");
  hold.Unlock();
}

TEST_F(CtlAsksTest, DrainWaitsUntilThatCoordinatorIsGone) {
  int asked = 0;
  fake_.status = [&asked](v1::StatusReply* reply) {
    reply->set_coordinator_id(++asked < 4 ? 7 : 8);  // another one in its place
    return grpc::Status::OK;
  };
  EXPECT_EQ(Ask({"drain"}).output, fake_.address() + ": drains\n");
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(Ask({"drain", "--wait"}).output, fake_.address() + ": drained\n");
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(fake_.drains, 2);
  ExpectOneLine(Ask({"drain", "--wait", "--timeout=150ms"}),
                ": drains, and is still there after 150ms");
}

TEST_F(CtlAsksTest, HealthOfWhatHasNoHealthServiceIsAnError) {
  const Ran ran = Ask({"health"});
  EXPECT_EQ(ran.status, 1);
  EXPECT_EQ(ran.output, "");
  EXPECT_THAT(ran.errors, StartsWith("syncnormctl: " + fake_.address() + ": "));
}

// A coordinator with a group of two, of which one has contributed.
class CtlCoordinatorTest : public ::testing::Test {
 protected:
  CtlCoordinatorTest() {
    ServerOptions options;
    options.listen = *ListenAddress::Parse("127.0.0.1:0");
    options.security.tokens = folder_.Write(
        "tokens", TokenLine("w", "worker", "*") + "\n" + TokenLine("r", "reader", "*") + "\n");
    server_ = *Server::Start(options);
    early_ = std::make_unique<TestWorker>(server_->address(), "w");
    late_ = std::make_unique<TestWorker>(server_->address(), "w");
    early_->Join(0, 2);
    late_->Join(1, 2);
    early_->ReadJoined();
    late_->ReadJoined();
    for (uint64_t round = 1; round <= 3; ++round) {
      Open(round);
      late_->Contribute(round);
      early_->ReadResult();
      late_->ReadResult();
    }
  }

  void Open(uint64_t round) {
    early_->Contribute(round);
    while (server_->snapshot().open_rounds == 0) std::this_thread::yield();
  }
  Ran Ask(std::vector<std::string> arguments) const {
    arguments.push_back("--address=" + server_->address());
    return Ctl(arguments, {{"SYNCNORM_TOKEN_FILE", folder_.Write("token", "r\n")}});
  }

  const syncnorm::testing::TestFolder folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<TestWorker> early_;
  std::unique_ptr<TestWorker> late_;
};

TEST_F(CtlCoordinatorTest, GroupsTopAndRingTellOfARunThatGoesOn) {
  Open(4);
  EXPECT_THAT(Ask({"groups"}).output, AllOf(HasSubstr("world"), HasSubstr("  running      2/2  "),
                                            HasSubstr("  rank 1 100.0%\n")));
  EXPECT_THAT(Ask({"top", "--count=1"}).output,
              AllOf(HasSubstr("1 groups, 2 members, "), HasSubstr("; 1 open; 3 complete, 0 failed"),
                    HasSubstr("    1  100.0%"), HasSubstr("waits for rank 1: round 4 bn (forward"),
                    Not(HasSubstr("last failures"))));
  EXPECT_THAT(Ask({"ring"}).output, AllOf(HasSubstr("3 ended rounds"), HasSubstr("  complete\n")));
  const auto json = nlohmann::json::parse(Ask({"groups", "--json"}).output);
  EXPECT_EQ(json["groups"][0]["counters"]["completed"], 3);
  EXPECT_EQ(Ask({"groups", "--group=none"}).errors,
            absl::StrCat("syncnormctl: ", server_->address(), ": no group \"none\"\n"));
}

TEST_F(CtlCoordinatorTest, TheSameFigureIsToldByEveryCommand) {
  const auto groups = nlohmann::json::parse(Ask({"groups", "--json"}).output);
  const double rounds_per_s = groups["groups"][0]["recent"]["rounds_per_s"];
  EXPECT_GT(rounds_per_s, 0);
  EXPECT_EQ(groups["status"]["rounds_completed"], 3);
  const auto report = nlohmann::json::parse(Ask({"report", "--json"}).output);
  EXPECT_EQ(report["groups"][0]["members"][1]["last"], groups["groups"][0]["members"][1]["last"]);
}

TEST_F(CtlCoordinatorTest, DrainNeedsTheRoleOfAnAdmin) {
  ExpectOneLine(Ask({"drain"}), "the token has not the role admin");
}

TEST_F(CtlCoordinatorTest, HealthFollowsTheDrain) {
  EXPECT_EQ(Ask({"health"}).output, server_->address() + ": SERVING\n");
  EXPECT_EQ(nlohmann::json::parse(Ask({"health", "--json"}).output)["status"], "SERVING");
  ExpectOneLine(Ask({"health", "--service=nobody"}), ": no service \"nobody\"");
  Open(4);
  std::thread drain([this] { server_->Drain(absl::Seconds(15)); });
  Ran health = Ask({"health", "--service=readiness"});
  while (health.status == 0) health = Ask({"health", "--service=readiness"});
  EXPECT_EQ(health.status, 1);
  EXPECT_EQ(health.output, server_->address() + ": NOT_SERVING\n");
  EXPECT_EQ(Ask({"health", "--service=liveness"}).status, 0);
  EXPECT_THAT(Ask({"top", "--count=1"}).output, HasSubstr(", DRAINING\n"));
  late_->Contribute(4);
  drain.join();
  EXPECT_EQ(Ask({"health"}).output, server_->address() + ": NOT_SERVING\n") << "to its end";
  const std::string address = server_->address();
  server_.reset();
  const Ran gone = Ctl({"health", "--address=" + address});
  EXPECT_EQ(gone.status, 1);
  EXPECT_THAT(gone.errors, HasSubstr("Connection refused"));
}

}  // namespace
}  // namespace syncnorm::server
