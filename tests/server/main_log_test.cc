// The real program's log: whoever reads it, or does not, and SIGHUP.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tests/server/full_pipe.h"
#include "tests/server/process.h"
#include "tests/server/test_worker.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const char kProgram[] = SYNCNORM_COORDINATOR;

std::string Listening(Process* process) {
  const std::string line = process->ReadLine();
  EXPECT_THAT(line, StartsWith("listening on "));
  return std::string(absl::StripPrefix(line, "listening on "));
}

// Two members, and so the log has something to say.
struct Pair {
  explicit Pair(const std::string& address) : a(address), b(address) {
    a.Join(0, 2);
    b.Join(1, 2);
    a.ReadJoined();
    b.ReadJoined();
  }
  void Reduce(uint64_t round) {
    a.Contribute(round, 1);
    b.Contribute(round, 2);
    EXPECT_EQ(a.ReadResult().moments.values[0], 3);
    EXPECT_EQ(b.ReadResult().moments.values[0], 3);
  }
  // They do not agree on the number of channels.
  void Fail(uint64_t round) {
    a.Contribute(round, 1, 4);
    b.Contribute(round, 1, 5);
    EXPECT_EQ(a.ReadFailure().key.round, round);
    EXPECT_EQ(b.ReadFailure().key.round, round);
  }

  TestWorker a;
  TestWorker b;
};

TEST(MainLogTest, AStderrThatNobodyReadsStopsNoRoundAndNoEnd) {
  for (const bool read_in_the_end : {true, false}) {
    FullPipe pipe;
    Process process(
        {"/bin/sh", "-c", "exec \"$0\" \"$@\" 2>" + pipe.path(), kProgram, "--listen=127.0.0.1:0"});
    Pair pair(Listening(&process));
    for (uint64_t round = 1; round <= 20; ++round) pair.Fail(round);
    for (uint64_t round = 21; round <= 120; ++round) pair.Reduce(round);
    if (read_in_the_end) {
      EXPECT_THAT(pipe.ReadUntil("epoch 1 round 18 layer bn "),
                  AllOf(HasSubstr("started with 2 members"), HasSubstr("epoch 1 round 1 layer bn "),
                        Not(HasSubstr("round 21 "))));
    }
    process.Signal(SIGTERM);
    EXPECT_THAT(pair.a.ReadToEnd(), HasSubstr("going down"));
    EXPECT_EQ(process.Wait(), 0);
  }
}

TEST(MainLogTest, JsonLinesCarryWhatTheSentenceIsAbout) {
  Process process({kProgram, "--listen=127.0.0.1:0", "--log_format=json"});
  std::vector<nlohmann::json> lines;
  {
    Pair pair(Listening(&process));
    pair.Reduce(1);
    pair.Fail(2);
    // A report is one line as well, and may overtake those of the log.
    process.Signal(SIGUSR1);
    nlohmann::json line;
    while (!(line = nlohmann::json::parse(process.ReadErrorLine())).contains("why")) {
      lines.push_back(line);
    }
    EXPECT_EQ(line["groups"][0]["name"], "world");
  }
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0);
  std::istringstream errors(process.Errors());
  for (std::string line; std::getline(errors, line);) lines.push_back(nlohmann::json::parse(line));
  ASSERT_GE(lines.size(), 3u);
  EXPECT_EQ(lines[0]["msg"], "group \"world\" epoch 1: started with 2 members");
  EXPECT_EQ(lines[0]["level"], "info");
  EXPECT_EQ(lines[0]["group"], "world");
  EXPECT_EQ(lines[0]["epoch"], 1);
  EXPECT_FALSE(lines[0].contains("round"));
  EXPECT_THAT(std::string(lines[1]["msg"]), StartsWith("group \"world\" epoch 1 round 2 layer bn"));
  EXPECT_EQ(lines[1]["level"], "warning");
  EXPECT_EQ(lines[1]["round"], 2);
  EXPECT_EQ(lines[1]["layer"], "bn");
  EXPECT_EQ(lines[1]["direction"], "forward");
  EXPECT_EQ(lines[1]["step"], 2);
  EXPECT_EQ(lines[1]["ranks"], nlohmann::json({0, 1}));
  EXPECT_EQ(lines.back()["msg"], "drained");
}

TEST(MainLogTest, ALogInJsonIsInJsonToItsLastLine) {
  Process first({kProgram, "--listen=127.0.0.1:0"});
  const Ran ran =
      RunToEnd({kProgram, "--listen=" + Listening(&first), "--log_format=json", "--log_level=off"});
  EXPECT_EQ(ran.status, 1);
  const nlohmann::json line = nlohmann::json::parse(ran.errors);
  EXPECT_EQ(line["level"], "error");
  EXPECT_THAT(std::string(line["msg"]), HasSubstr("Address already in use"));
}

TEST(MainLogTest, SighupReadsTheLogLevelAgainAndNamesWhatTakesARestart) {
  const syncnorm::testing::TestFolder folder;
  const std::string config = folder.Write("c.yaml", "log_level: warn\nmax_groups: 7\n");
  Process process({kProgram, "--config=" + config, "--listen=127.0.0.1:0"},
                  {"SYNCNORM_COORDINATOR_MAX_STREAMS=9"});
  Pair pair(Listening(&process));  // says nothing, at this level
  const auto next = [&] {
    const std::string line = process.ReadErrorLine();
    return line.substr(line.find(" syncnorm: ") + 11);
  };

  folder.Write("c.yaml", "log_level: info\nmax_groups: 8\nmax_streams: 10\nround_timeout: 1s\n");
  process.Signal(SIGHUP);
  EXPECT_EQ(next(), "SIGHUP: log_level is info");
  EXPECT_EQ(next(), "SIGHUP: changed as well, which takes a restart: max_groups, round_timeout");
  pair.Fail(1);
  EXPECT_THAT(next(), HasSubstr("round 1 layer bn"));

  folder.Write("c.yaml", "log_level: debug\nmax_group: 8\n");
  process.Signal(SIGHUP);
  EXPECT_EQ(next(), "SIGHUP: the configuration stays as it is: " + config +
                        ":2: max_group: is no flag's name; did you mean max_groups?; see --help");

  folder.Write("c.yaml", "log_level: error\nmax_groups: 7\n");
  process.Signal(SIGHUP);
  // Nothing tells that it was heard; the report that follows on the next signal does.
  process.Signal(SIGUSR1);
  EXPECT_EQ(process.ReadErrorLine(), "{");
  pair.Reduce(2);
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_THAT(process.Errors(), Not(HasSubstr("syncnorm: ")));
}

TEST(MainLogTest, SighupWithoutAFileEndsNothing) {
  Process process({kProgram, "--listen=127.0.0.1:0"});
  Listening(&process);
  process.Signal(SIGHUP);
  EXPECT_THAT(process.ReadErrorLine(), HasSubstr("SIGHUP: log_level is info"));
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0);
}

}  // namespace
}  // namespace syncnorm::server
