// The real program: its command line, its signals, and workers that are real processes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "proto/clock.h"
#include "tests/server/process.h"
#include "tests/server/test_worker.h"
#include "tests/server/token_lines.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kWorkerVariable[] = "SYNCNORM_TEST_WORKER";
const char kProgram[] = SYNCNORM_COORDINATOR;

// A coordinator that listens.
class Program {
 public:
  explicit Program(const std::vector<std::string>& flags = {}) : process_(Command(flags)) {
    const std::string line = process_.ReadLine();
    EXPECT_THAT(line, StartsWith("listening on "));
    address_ = std::string(absl::StripPrefix(line, "listening on "));
  }

  const std::string& address() const { return address_; }
  Process& process() { return process_; }

 private:
  static std::vector<std::string> Command(const std::vector<std::string>& flags) {
    std::vector<std::string> command = {kProgram, "--listen=127.0.0.1:0"};
    command.insert(command.end(), flags.begin(), flags.end());
    return command;
  }

  Process process_;
  std::string address_;
};

void ExpectOneLine(const Ran& ran, const std::string& text) {
  EXPECT_NE(ran.status, 0);
  EXPECT_EQ(ran.output, "");
  EXPECT_THAT(ran.errors, HasSubstr(text));
  EXPECT_EQ(std::count(ran.errors.begin(), ran.errors.end(), '\n'), 1) << ran.errors;
}

TEST(MainTest, HelpNamesTheFlagsAndTheirDefaults) {
  const Ran ran = RunToEnd({kProgram, "--help"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.output,
              AllOf(HasSubstr("--listen  (127.0.0.1:7070)"), HasSubstr("--round_timeout  (1m)"),
                    HasSubstr("--max_groups  (1024)"), HasSubstr("SIGTERM")));
}

TEST(MainTest, VersionIsOneLine) {
  const Ran ran = RunToEnd({kProgram, "--version"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.output, AllOf(StartsWith("syncnorm-coordinator "), HasSubstr("protocol 1.2")));
}

// What may be wrong with a configuration, wherever it comes from.
struct Bad {
  std::vector<std::string> flags;
  std::vector<std::string> variables;  // without SYNCNORM_COORDINATOR_
  std::string file;                    // "": none
  std::string line;                    // what is said, in part
};

void ExpectRefused(const Bad& bad) {
  const syncnorm::testing::TestFolder folder;
  std::vector<std::string> environment;
  for (const std::string& variable : bad.variables) {
    environment.push_back("SYNCNORM_COORDINATOR_" + variable);
  }
  std::vector<std::string> command = {kProgram, "--listen=127.0.0.1:0"};
  if (!bad.file.empty()) command.push_back("--config=" + folder.Write("c.yaml", bad.file));
  command.insert(command.end(), bad.flags.begin(), bad.flags.end());
  SCOPED_TRACE(absl::StrCat(absl::StrJoin(command, " "), " ", absl::StrJoin(environment, " ")));
  const std::vector<std::string> start = command;
  command.push_back("--check_config");
  ExpectOneLine(RunToEnd(command, environment), bad.line);
  // What passes the check by mistake would serve on.
  if (!::testing::Test::HasFailure()) ExpectOneLine(RunToEnd(start, environment), bad.line);
}

TEST(MainTest, EveryBadConfigurationIsOneClearLineAndSoItsCheck) {
  for (const Bad& bad : std::vector<Bad>{
           // flags
           {{"--bogus=1"}, {}, "", "--bogus: is no flag"},
           {{"--lisen=x"}, {}, "", "did you mean --listen?"},
           {{"argument"}, {}, "", "unexpected argument \"argument\""},
           {{"--round_timeout"}, {}, "", "--round_timeout: "},
           {{"--round_timeout=soon"}, {}, "", "--round_timeout: \"soon\" is not a duration"},
           {{"--round_timeout=-1s"}, {}, "", "--round_timeout: -1s is not above 0"},
           {{"--join_timeout=0"}, {}, "", "--join_timeout: 0 is not above 0"},
           {{"--hello_timeout=0"}, {}, "", "--hello_timeout: 0 is not above 0"},
           {{"--handshake_timeout=0"}, {}, "", "--handshake_timeout: 0 is not above 0"},
           {{"--idle_timeout=0"}, {}, "", "--idle_timeout: 0 is not above 0"},
           {{"--resume_timeout=0"}, {}, "", "--resume_timeout: 0 is not above 0"},
           {{"--straggler_warning=0"}, {}, "", "--straggler_warning: 0 is not above 0"},
           {{"--reconnect_grace=-1ms"}, {}, "", "--reconnect_grace: -1ms is below 0"},
           {{"--drain_grace=-1ms"}, {}, "", "--drain_grace: -1ms is below 0"},
           {{"--reload_interval=1ms"}, {}, "", "--reload_interval: 1ms is below 10ms"},
           {{"--max_handover_bytes=0"}, {}, "", "--max_handover_bytes: 0 is not within 1 to"},
           {{"--kept_rounds=1"}, {}, "", "--kept_rounds: 1 is not within 2 to"},
           {{"--insecure=maybe"}, {}, "", "--insecure: \"maybe\" is not true or false"},
           {{"--listen=nowhere"}, {}, "", "expected HOST:PORT"},
           {{"--listen=0.0.0.0:0"}, {}, "", "give --insecure if that is meant"},
           {{"--listen=a\nb:0"}, {}, "", "a?b:0"},
           {{"--admin_listen=nowhere"}, {}, "", "--admin_listen: address \"nowhere\": expected"},
           {{"--admin_listen=0.0.0.0:0"}, {}, "", "give --admin_insecure if that is meant"},
           {{"--admin_listen=[::1]:70", "--listen=[::1]:70"}, {}, "", "is what --listen has"},
           {{"--log_level=loud"}, {}, "", "--log_level: "},
           {{"--log_format=xml"}, {}, "", "--log_format: "},
           // files that flags name
           {{"--dump_dir=/nowhere"}, {}, "", "cannot write dumps to /nowhere: No such file"},
           {{"--port_file=/nowhere/p"}, {}, "", "cannot write port file /nowhere/p: No such file"},
           {{"--tokens=/nowhere"}, {}, "", "/nowhere: cannot be read: No such file"},
           {{"--tls_dir=/nowhere"}, {}, "", "/nowhere/tls.crt: cannot be read: No such file"},
           {{"--tls_cert=x"}, {}, "", "--tls_key: is missing"},
           {{"--tls_client_ca=x"}, {}, "", "--tls_cert: is missing"},
           {{"--tls_cert=x", "--tls_key=y"}, {}, "", "--tls_client_ca: is missing"},
           {{"--config=/nowhere"}, {}, "", "/nowhere: cannot be read: No such file"},
           // variables
           {{}, {"MAX_GROUP=1"}, "", "did you mean SYNCNORM_COORDINATOR_MAX_GROUPS?"},
           {{}, {"MAX_GROUPS=0"}, "", "SYNCNORM_COORDINATOR_MAX_GROUPS: 0 is not within"},
           {{}, {"CONFIG=/nowhere"}, "", "/nowhere: cannot be read"},
           {{}, {"CHECK_CONFIG=1"}, "", "SYNCNORM_COORDINATOR_CHECK_CONFIG: is the variable of no"},
           // the file
           {{}, {}, "max_groups: 1\nmax_group: 1\n", "c.yaml:2: max_group: is no flag's name"},
           {{}, {}, "max_groups: 1\nmax_groups: 1\n", "c.yaml:2: max_groups: is there a second"},
           {{}, {}, "max_groups: [1]\n", "c.yaml:1: max_groups: is a list"},
           {{}, {}, "max_groups: many\n", "c.yaml:1: max_groups: \"many\" is not a whole number"},
           {{}, {}, "\"a\\nb\": 1\n", "c.yaml:1: a?b: is no flag's name"},
           {{}, {}, "a: [\n", "c.yaml:2: "},
           {{"--max_groups=2"}, {}, "max_groups: 0\n", "c.yaml:1: max_groups: 0 is not within"},
       }) {
    ExpectRefused(bad);
  }
}

TEST(MainTest, AGoodConfigurationIsOkWithoutListening) {
  Program first;
  const Ran ran = RunToEnd({kProgram, "--check_config", "--listen=" + first.address()});
  EXPECT_EQ(ran.status, 0);
  EXPECT_EQ(ran.output, "ok\n");
  EXPECT_EQ(ran.errors, "");
}

TEST(MainTest, ThePrintedConfigurationIsOneThatItTakes) {
  const syncnorm::testing::TestFolder folder;
  const std::string file = folder.Write("c.yaml", "max_groups: 7\n");
  const Ran ran = RunToEnd({kProgram, "--config=" + file, "--listen=127.0.0.1:0", "--print_config"},
                           {"SYNCNORM_COORDINATOR_LOG_FORMAT=json"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.output, AllOf(HasSubstr(absl::StrCat("\nmax_groups: 7  # file ", file, ":1\n")),
                                HasSubstr("\nlisten: 127.0.0.1:0  # flag\n"),
                                HasSubstr("\nlog_format: json  # environment\n"),
                                HasSubstr("\nround_timeout: 1m  # default\n")));
  Process process({kProgram, "--config=" + folder.Write("again.yaml", ran.output)});
  EXPECT_THAT(process.ReadLine(), StartsWith("listening on 127.0.0.1:"));
}

TEST(MainTest, RefusesPlaintextThatOtherMachinesCanReachUnlessToldTo) {
  ExpectOneLine(RunToEnd({kProgram, "--listen=0.0.0.0:0"}), "give --insecure if that is meant");
  Process process({kProgram, "--listen=0.0.0.0:0", "--insecure"});
  EXPECT_THAT(process.ReadLine(), StartsWith("listening on 0.0.0.0:"));
}

TEST(MainTest, InsecureIsWarnedAboutAtEachStart) {
  for (int start = 0; start < 2; ++start) {
    Process process({kProgram, "--listen=0.0.0.0:0", "--insecure"});
    process.ReadLine();
    process.Signal(SIGTERM);
    EXPECT_EQ(process.Wait(), 0);
    EXPECT_THAT(process.Errors(), HasSubstr("warning syncnorm: insecure: the coordinator listens"));
  }
}

class SecureMainTest : public ::testing::Test {
 protected:
  static Ran Start(const std::string& flag) {
    return RunToEnd({kProgram, "--listen=0.0.0.0:0", flag});
  }

  const syncnorm::testing::Authority authority_{"authority"};
  const syncnorm::testing::TestFolder folder_;
};

TEST_F(SecureMainTest, ListensWhereOthersReachItWithTheFilesOfASecret) {
  const std::string secret =
      folder_.WriteSecret("tls", authority_.Issue({}), authority_.certificate());
  const std::string tokens = folder_.Write("tokens", TokenLine("t", "worker", "*"));
  Process process(
      {kProgram, "--listen=0.0.0.0:0", "--tls_dir=" + secret, "--tokens=" + tokens, "--insecure"});
  EXPECT_THAT(process.ReadLine(), StartsWith("listening on 0.0.0.0:"));
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_THAT(process.Errors(), ::testing::Not(HasSubstr("insecure"))) << "it is not in plaintext";
}

TEST_F(SecureMainTest, FilesThatCannotBeUsedAreOneClearLine) {
  ExpectOneLine(RunToEnd({kProgram, "--tokens=" + folder_.Write("tokens", "nonsense\n")}),
                "tokens: line 1: ");
  const std::string old = folder_.WriteSecret(
      "old", authority_.Issue({.begins = -absl::Hours(2), .ends = -absl::Hours(1)}),
      authority_.certificate());
  ExpectOneLine(Start("--tls_dir=" + old),
                "tls.crt: the certificate of CN=someone expired: not_after 20");
  const std::string early = folder_.WriteSecret(
      "early", authority_.Issue({.begins = absl::Hours(1), .ends = absl::Hours(2)}),
      authority_.certificate());
  ExpectOneLine(Start("--tls_dir=" + early), "is not valid yet: not_before 20");
}

TEST(MainTest, APortInUseIsOneClearLine) {
  Program first;
  const std::string line =
      absl::StrCat("cannot listen on ", first.address(), ": Address already in use");
  ExpectOneLine(RunToEnd({kProgram, "--listen=" + first.address()}), line);
  ExpectOneLine(RunToEnd({kProgram, "--listen=127.0.0.1:0", "--admin_listen=" + first.address()}),
                line);
  // Not the warning about plaintext too: it does not listen.
  const std::string port = first.address().substr(first.address().rfind(':'));
  ExpectOneLine(RunToEnd({kProgram, "--listen=0.0.0.0" + port, "--insecure"}),
                "Address already in use");
}

TEST(MainTest, WritesThePortFile) {
  const std::string path =
      (std::filesystem::path(::testing::TempDir()) / absl::StrCat("port", getpid())).string();
  Program program({"--port_file=" + path});
  std::ifstream file(path);
  int port = 0;
  file >> port;
  EXPECT_EQ(absl::StrCat("127.0.0.1:", port), program.address());
  std::filesystem::remove(path);
}

TEST(MainTest, ASignalDrainsAndEndsWithStatusZero) {
  for (const int signal : {SIGTERM, SIGINT}) {
    Program program;
    TestWorker worker(program.address());
    worker.Join(0, 1);
    worker.ReadJoined();
    worker.Contribute(1, 3);
    EXPECT_EQ(worker.ReadResult().moments.values[0], 3);
    program.process().Signal(signal);
    EXPECT_EQ(worker.Read()->kind, wire::CoordinatorMessage::Kind::kDraining);
    EXPECT_THAT(worker.ReadToEnd(), HasSubstr("going down"));
    EXPECT_EQ(program.process().Wait(), 0);
    EXPECT_THAT(program.process().Errors(), HasSubstr("drained"));
  }
}

TEST(MainTest, ALivingRankIsReplacedOnlyWhereTheCoordinatorWasToldSo) {
  for (const bool replace : {false, true}) {
    Program program({absl::StrCat("--replace_duplicates=", replace)});
    TestWorker holder(program.address());
    holder.Join(0, 1);
    holder.ReadJoined();
    TestWorker newcomer(program.address());
    wire::Join join = newcomer.MakeJoin(0, 1);
    join.incarnation.assign(wire::kIncarnationBytes, 'n');
    newcomer.Send(join);
    if (replace) {
      newcomer.ReadJoined();
      EXPECT_EQ(holder.ReadFailure().code, absl::StatusCode::kFailedPrecondition);
    } else {
      EXPECT_EQ(newcomer.ReadFailure().code, absl::StatusCode::kAlreadyExists);
      holder.Contribute(1, 3);
      EXPECT_EQ(holder.ReadResult().moments.values[0], 3);
    }
  }
}

// The grace is over as soon as the connection is; the default one would be noticed below.
TEST(MainTest, TheGraceForMembersThatComeBackIsKept) {
  for (const char* grace : {"0", "700ms"}) {
    Program program({absl::StrCat("--reconnect_grace=", grace)});
    TestWorker survivor(program.address());
    auto victim = std::make_unique<TestWorker>(program.address());
    survivor.Join(0, 2);
    victim->Join(1, 2);
    survivor.ReadJoined();
    victim->ReadJoined();
    survivor.Contribute(1);
    const absl::Time before = MonotonicClock().Now();
    victim.reset();
    EXPECT_EQ(survivor.ReadFailure().ranks, std::vector<uint32_t>{1});
    const absl::Duration took = MonotonicClock().Now() - before;
    if (std::string(grace) == "0") {
      EXPECT_LT(took, absl::Milliseconds(140));
    } else {
      EXPECT_GE(took, absl::Milliseconds(700));
    }
  }
}

TEST(MainTest, ARunIsResumedForAsLongAsTheCoordinatorWasTold) {
  Program program({"--resume_timeout=200ms"});
  TestWorker worker(program.address());
  wire::Join join = worker.MakeJoin(0, 2);
  join.resume.emplace();
  join.resume->run_id = 7;
  join.resume->coordinator_id = 7;
  join.resume->epoch = 3;
  join.resume->members = {0, 1};
  worker.Send(join);
  const Failure failure = worker.ReadFailure();
  EXPECT_EQ(failure.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(failure.text, HasSubstr("rank 1 did not resume within 0.2 s"));
}

TEST(MainTest, TheGraceOfADrainIsKept) {
  Program program({"--drain_grace=100ms"});
  TestWorker a(program.address());
  TestWorker b(program.address());
  a.Join(0, 2);
  b.Join(1, 2);
  a.ReadJoined();
  b.ReadJoined();
  a.Contribute(1);  // b never does
  program.process().Signal(SIGTERM);
  EXPECT_THAT(a.ReadToEnd(), HasSubstr("going down"));
  EXPECT_EQ(program.process().Wait(), 0);
}

TEST(MainTest, AKilledWorkerIsNamedToTheOthersWithinASecond) {
  Program program;
  TestWorker survivor(program.address());
  survivor.Join(0, 2);
  Process victim({"/proc/self/exe"}, {absl::StrCat(kWorkerVariable, "=", program.address())});
  survivor.ReadJoined();
  EXPECT_EQ(victim.ReadLine(), "joined");
  survivor.Contribute(1);
  const absl::Time before = MonotonicClock().Now();
  victim.Signal(SIGKILL);
  const Failure failure = survivor.ReadFailure();
  EXPECT_LT(MonotonicClock().Now() - before, absl::Seconds(1));
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
  EXPECT_THAT(failure.text, AllOf(HasSubstr("rank 1 (host h1, pid "), HasSubstr("disconnected")));
}

// The process that a test kills: rank 1 of 2, which joins and waits.
int BeAWorker(const char* address) {
  TestWorker worker(address);
  worker.Join(1, 2);
  worker.ReadJoined();
  std::puts("joined");
  std::fflush(stdout);
  worker.Read();
  return 0;
}

}  // namespace
}  // namespace syncnorm::server

int main(int argc, char** argv) {
  if (const char* address = std::getenv(syncnorm::server::kWorkerVariable)) {
    return syncnorm::server::BeAWorker(address);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
