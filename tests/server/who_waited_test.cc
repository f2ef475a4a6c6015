// Who waited for whom, with the real programs: a slow rank is named by the log, by the files of
// --dump_dir, on SIGUSR1 and by syncnormctl, and a disk that takes no files harms no round.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "syncnorm/v1/admin.grpc.pb.h"
#include "tests/server/process.h"
#include "tests/server/test_worker.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

namespace fs = std::filesystem;

const char kProgram[] = SYNCNORM_COORDINATOR;
const char kCtl[] = SYNCNORM_CTL;

class WhoWaitedTest : public testing::Test {
 protected:
  WhoWaitedTest() {
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    directory_ =
        fs::path(testing::TempDir()) / absl::StrCat("waited-", test->name(), "-", getpid());
    fs::create_directory(directory_);
  }
  ~WhoWaitedTest() override { fs::remove_all(directory_); }

  void Start(std::vector<std::string> flags, const std::vector<std::string>& before = {}) {
    std::vector<std::string> command = before;
    command.insert(command.end(), {kProgram, "--listen=127.0.0.1:0"});
    command.insert(command.end(), flags.begin(), flags.end());
    coordinator_ = std::make_unique<Process>(command);
    const std::string line = coordinator_->ReadLine();
    ASSERT_THAT(line, StartsWith("listening on "));
    address_ = std::string(absl::StripPrefix(line, "listening on "));
    stub_ = v1::Admin::NewStub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
  }
  // A group of two.
  void Form() {
    quick_ = std::make_unique<TestWorker>(address_);
    slow_ = std::make_unique<TestWorker>(address_);
    quick_->Join(0, 2);
    slow_->Join(1, 2);
    quick_->ReadJoined();
    slow_->ReadJoined();
  }

  v1::StatusReply Status() {
    grpc::ClientContext context;
    context.set_deadline(
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(20, GPR_TIMESPAN)));
    v1::StatusReply status;
    EXPECT_TRUE(stub_->Status(&context, {}, &status).ok());
    return status;
  }
  // Asks until it is so; ctest's timeout ends what never is.
  template <typename Condition>
  void Until(Condition condition) {
    while (!condition(Status()) && !HasFailure()) std::this_thread::yield();
  }
  // The slow one's contribution comes when the quick one's waits for it.
  void Reduce(uint64_t round) {
    quick_->Contribute(round);
    Until([](const v1::StatusReply& status) { return status.open_rounds() == 1; });
    slow_->Contribute(round);
    EXPECT_EQ(quick_->ReadResult().moments.values[0], 2);
    slow_->ReadResult();
  }
  // A round in which the two disagree.
  void Disagree(uint64_t round) {
    quick_->Contribute(round, 1, 4);
    Until([](const v1::StatusReply& status) { return status.open_rounds() == 1; });
    slow_->Contribute(round, 1, 8);
    quick_->ReadFailure();
    slow_->ReadFailure();
  }

  std::vector<fs::path> Files() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(directory_)) files.push_back(entry.path());
    return files;
  }
  // The errors of a coordinator that ended as it should.
  std::string End() {
    coordinator_->Signal(SIGTERM);
    quick_.reset();
    slow_.reset();
    EXPECT_EQ(coordinator_->Wait(), 0);
    return coordinator_->Errors();
  }
  Ran Ctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), kCtl);
    arguments.push_back("--address=" + address_);
    return RunToEnd(arguments);
  }

  fs::path directory_;
  std::unique_ptr<Process> coordinator_;
  std::string address_;
  std::unique_ptr<v1::Admin::Stub> stub_;
  std::unique_ptr<TestWorker> quick_;
  std::unique_ptr<TestWorker> slow_;
};

nlohmann::json Read(const fs::path& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

// Row 61 of the fault table.
TEST_F(WhoWaitedTest, ASlowRankIsNamedByTheLogAndByTheTable) {
  Start({"--straggler_warning=50ms"});
  Form();
  for (uint64_t round = 1; round <= 3; ++round) Reduce(round);
  quick_->Contribute(4);
  Until([](const v1::StatusReply& status) { return status.stragglers() == 1; });
  const Ran waiting = Ctl({"report"});
  EXPECT_EQ(waiting.status, 0) << waiting.errors;
  EXPECT_THAT(waiting.output, HasSubstr("round 4 bn (forward, step 4) waits for rank 1\n"));
  slow_->Contribute(4);
  quick_->ReadResult();
  slow_->ReadResult();

  const Ran report = Ctl({"report", "--group=world"});
  EXPECT_EQ(report.status, 0) << report.errors;
  EXPECT_THAT(report.output, HasSubstr("group \"world\" epoch 1, running: 2 members, 4 rounds"));
  EXPECT_THAT(report.output, HasSubstr("      1     100.0%"));
  EXPECT_LT(report.output.find("h1 pid"), report.output.find("h0 pid"));
  EXPECT_THAT(report.output, HasSubstr("rank 1 100.0%"));
  EXPECT_THAT(End(), AllOf(HasSubstr("round 4 layer bn (forward, step 4): has waited 0."),
                           HasSubstr("for rank 1 (host h1, pid ")));
}

TEST_F(WhoWaitedTest, AFailureLeavesAFileThatAgreesWithTheCall) {
  Start({"--dump_dir=" + directory_.string()});
  Form();
  Reduce(1);
  Disagree(2);
  Until([](const v1::StatusReply& status) { return status.dumps_written() == 1; });
  ASSERT_THAT(Files(), SizeIs(1));
  EXPECT_EQ(Files()[0].filename(), "syncnorm-world-1-1.json");
  const nlohmann::json file = Read(Files()[0]);
  EXPECT_THAT(file["why"].get<std::string>(), HasSubstr("round 2 layer bn"));
  const nlohmann::json& rounds = file["groups"][0]["rounds"];
  ASSERT_EQ(rounds.size(), 2u);
  EXPECT_EQ(rounds[0]["outcome"], "ABORTED");
  EXPECT_EQ(rounds[1]["outcome"], "complete");
  EXPECT_EQ(rounds[1]["last_rank"], 1);

  const Ran ctl = Ctl({"report", "--json"});
  EXPECT_EQ(ctl.status, 0) << ctl.errors;
  const nlohmann::json call = nlohmann::json::parse(ctl.output);
  EXPECT_EQ(call["groups"][0]["layers"], file["groups"][0]["layers"]);
  EXPECT_EQ(call["groups"][0]["rounds"][0]["text"], rounds[0]["text"]);
  // A second failure within ten seconds makes no second file.
  Disagree(3);
  End();
  EXPECT_THAT(Files(), SizeIs(1));
}

TEST_F(WhoWaitedTest, SIGUSR1WritesAFileOnAllGroupsAndTheCoordinatorGoesOn) {
  Start({"--dump_dir=" + directory_.string()});
  Form();
  Reduce(1);
  TestWorker other(address_);
  wire::Join join = other.MakeJoin(0, 1);
  join.group = "other/group";
  other.Send(join);
  other.ReadJoined();
  for (int n = 1; n <= 2; ++n) {
    coordinator_->Signal(SIGUSR1);
    Until([&](const v1::StatusReply& status) { return status.dumps_written() == n; });
  }
  const nlohmann::json file = Read(directory_ / "syncnorm-report-1.json");
  EXPECT_EQ(file["why"], "SIGUSR1");
  ASSERT_EQ(file["groups"].size(), 2u);
  EXPECT_EQ(file["groups"][0]["members"][1]["last"], 1);
  EXPECT_EQ(file["groups"][1]["name"], "other/group");
  Reduce(2);
  other.Cancel();
  End();
}

TEST_F(WhoWaitedTest, SIGUSR1WithoutADirectoryWritesToStderr) {
  Start({"--log_level=off"});
  Form();
  Reduce(1);
  coordinator_->Signal(SIGUSR1);
  Until([](const v1::StatusReply& status) { return status.dumps_written() == 1; });
  Reduce(2);
  const nlohmann::json json = nlohmann::json::parse(End());
  EXPECT_EQ(json["groups"][0]["members"][1]["state"], "here");
}

TEST_F(WhoWaitedTest, ADirectoryThatGoesCostsOneLineAndNoRound) {
  const std::filesystem::path gone = directory_ / "gone";
  std::filesystem::create_directory(gone);
  Start({"--dump_dir=" + gone.string()});
  std::filesystem::remove(gone);
  Form();
  Disagree(1);
  Until([](const v1::StatusReply& status) { return status.dumps_failed() == 1; });
  Reduce(2);
  coordinator_->Signal(SIGUSR1);
  Until([](const v1::StatusReply& status) { return status.dumps_failed() == 2; });
  Reduce(3);
  const std::string log = End();
  EXPECT_THAT(log, HasSubstr("No such file or directory; rounds go on"));
  EXPECT_EQ(log.find("cannot write dump"), log.rfind("cannot write dump")) << log;
}

// Row 50 of the fault table.
TEST_F(WhoWaitedTest, AFullDiskCostsOneLineAndNoRound) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting a small disk needs root";
  // In a mount namespace of its own, which ends with the process.
  const std::string script = absl::StrCat("mount -t tmpfs -o size=64k tmpfs '", directory_.string(),
                                          "' && head -c 65536 /dev/zero > '", directory_.string(),
                                          "/full' && exec \"$0\" \"$@\"");
  Start({"--dump_dir=" + directory_.string()}, {"/usr/bin/unshare", "-m", "/bin/sh", "-c", script});
  Form();
  Disagree(1);
  Until([](const v1::StatusReply& status) { return status.dumps_failed() == 1; });
  for (uint64_t round = 2; round <= 5; ++round) Reduce(round);
  const std::string log = End();
  EXPECT_THAT(log, HasSubstr("No space left on device; rounds go on"));
}

TEST_F(WhoWaitedTest, StatusCountsAndMistakesAreOneClearLine) {
  Start({});
  Form();
  Reduce(1);
  EXPECT_THAT(Ctl({"status"}).output, AllOf(HasSubstr("  members                       2\n"),
                                            HasSubstr("  rounds completed              1\n")));
  EXPECT_EQ(Ctl({"report", "--group=nobody"}).errors,
            absl::StrCat("syncnormctl: ", address_, ": no group \"nobody\"\n"));
  EXPECT_THAT(Ctl({}).errors, StartsWith("syncnormctl: no command; expected status, groups, "));
  EXPECT_EQ(Ctl({"report", "more"}).status, 1);
  End();
  const Ran gone = Ctl({"status", "--timeout=5s"});
  EXPECT_EQ(gone.status, 1);
  EXPECT_THAT(gone.errors, StartsWith(absl::StrCat("syncnormctl: ", address_, ": ")));
}

}  // namespace
}  // namespace syncnorm::server
