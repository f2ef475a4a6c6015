// The real syncnormctl: on a terminal, with signals, and with the real coordinator.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tests/server/process.h"
#include "tests/server/test_worker.h"
#include "tests/support/certificates.h"

namespace syncnorm::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const char kProgram[] = SYNCNORM_COORDINATOR;
const char kCtl[] = SYNCNORM_CTL;
constexpr char kEnter[] = "\x1b[?1049h\x1b[?25l";
constexpr char kLeave[] = "\x1b[?25h\x1b[?1049l";

// A program on a terminal of its own.
class OnTerminal {
 public:
  OnTerminal(std::vector<std::string> command, uint16_t rows, uint16_t columns) {
    winsize window = {rows, columns, 0, 0};
    pid_ = forkpty(&terminal_, nullptr, nullptr, &window);
    if (pid_ == 0) {
      std::vector<char*> arguments;
      for (std::string& argument : command) arguments.push_back(argument.data());
      arguments.push_back(nullptr);
      execv(arguments[0], arguments.data());
      _exit(127);
    }
    EXPECT_GT(pid_, 0);
  }
  ~OnTerminal() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(terminal_);
  }

  // All that it has shown once it has shown `text`; within 20 s.
  std::string Until(const std::string& text, size_t from = 0) {
    while (shown_.find(text, from) == std::string::npos) {
      pollfd ready = {terminal_, POLLIN, 0};
      char buffer[4096];
      ssize_t n = 0;
      if (poll(&ready, 1, 20'000) == 1) n = read(terminal_, buffer, sizeof(buffer));
      if (n <= 0) {
        ADD_FAILURE() << "did not show " << text << " but " << shown_;
        break;
      }
      shown_.append(buffer, static_cast<size_t>(n));
    }
    return shown_;
  }
  size_t shown() const { return shown_.size(); }
  void Type(char key) const { EXPECT_EQ(write(terminal_, &key, 1), 1); }
  void Resize(uint16_t rows, uint16_t columns) const {
    winsize window = {rows, columns, 0, 0};
    EXPECT_EQ(ioctl(terminal_, TIOCSWINSZ, &window), 0);
  }
  bool Echoes() const {
    termios settings = {};
    EXPECT_EQ(tcgetattr(terminal_, &settings), 0);
    return (settings.c_lflag & ECHO) != 0;
  }
  // As Process::Wait.
  int Wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void Signal(int signal) const { EXPECT_EQ(kill(pid_, signal), 0); }

 private:
  pid_t pid_ = -1;
  int terminal_ = -1;
  std::string shown_;
};

class CtlProgramTest : public ::testing::Test {
 protected:
  std::string Start(const std::vector<std::string>& flags = {}) {
    std::vector<std::string> command = {kProgram, "--listen=127.0.0.1:0"};
    command.insert(command.end(), flags.begin(), flags.end());
    coordinator_ = std::make_unique<Process>(command);
    const std::string line = coordinator_->ReadLine();
    EXPECT_THAT(line, StartsWith("listening on "));
    return std::string(absl::StripPrefix(line, "listening on "));
  }
  static std::vector<std::string> Top(const std::string& address, const std::string& more = "") {
    std::vector<std::string> command = {kCtl, "top", "--address=" + address, "--interval=50ms"};
    if (!more.empty()) command.push_back(more);
    return command;
  }

  std::unique_ptr<Process> coordinator_;
};

TEST_F(CtlProgramTest, TopTakesTheScreenAndQGivesItBack) {
  const std::string address = Start();
  OnTerminal top(Top(address), 24, 80);
  EXPECT_THAT(top.Until("0 groups"), StartsWith(kEnter));
  EXPECT_FALSE(top.Echoes());
  top.Until("\x1b[H", top.shown());  // a second frame
  top.Type('q');
  EXPECT_THAT(top.Until(kLeave), ::testing::EndsWith(kLeave));
  EXPECT_EQ(top.Wait(), 0);
  EXPECT_TRUE(top.Echoes());
}

TEST_F(CtlProgramTest, CtrlCEndsTopAtOnceAndGivesTheScreenBack) {
  const std::string address = Start();
  OnTerminal top(Top(address, "--interval=1h"), 24, 80);
  top.Until("0 groups");
  top.Type('\x03');
  top.Until(kLeave);
  EXPECT_EQ(top.Wait(), 0);
  EXPECT_TRUE(top.Echoes());
}

TEST_F(CtlProgramTest, AKillGivesTheScreenBackToo) {
  const std::string address = Start();
  OnTerminal top(Top(address), 24, 80);
  top.Until("0 groups");
  top.Signal(SIGTERM);
  top.Until(kLeave);
  EXPECT_EQ(top.Wait(), 128 + SIGTERM);
  EXPECT_TRUE(top.Echoes());
}

TEST_F(CtlProgramTest, TopFitsItsWindowAndFollowsItsSize) {
  const std::string address = Start();
  TestWorker worker(address);
  worker.Join(0, 1);
  worker.ReadJoined();
  OnTerminal top(Top(address, "--interval=1h"), 24, 30);
  const std::string narrow = top.Until("\x1b[J");
  EXPECT_THAT(narrow, AllOf(HasSubstr("1 groups, 1 members, "), HasSubstr("~\x1b[K")));
  EXPECT_THAT(narrow, Not(HasSubstr("stragglers")));
  const size_t before = top.shown();
  top.Resize(2, 200);
  const std::string wide = top.Until("\x1b[J", before).substr(before);
  EXPECT_THAT(wide, AllOf(HasSubstr("stragglers"), Not(HasSubstr("world"))));
}

TEST_F(CtlProgramTest, TopSaysThatTheCoordinatorIsGoneAndFindsTheNextOne) {
  const std::string address = Start();
  OnTerminal top(Top(address), 24, 80);
  top.Until("0 groups");
  coordinator_->Signal(SIGKILL);
  coordinator_->Wait();
  top.Until("cannot reach " + address);
  const size_t before = top.shown();
  coordinator_ =
      std::make_unique<Process>(std::vector<std::string>{kProgram, "--listen=" + address});
  top.Until("0 groups", before);
  top.Type('q');
  top.Until(kLeave);
  EXPECT_EQ(top.Wait(), 0);
}

TEST_F(CtlProgramTest, TopReadsItsFilesAgainWhenItTriesAgain) {
  const syncnorm::testing::TestFolder folder;
  for (const char* name : {"first", "second"}) {
    const Ran made = RunToEnd({kCtl, "certs", "--out=" + folder.path(name), "--coordinator=x"});
    ASSERT_EQ(made.status, 0) << made.errors;
  }
  folder.Link("now", folder.path("first"));
  const std::string own = folder.path("now/coordinator");
  const std::string address = Start({"--tls_dir=" + own, "--tokens=" + own + "/tokens"});
  OnTerminal top(Top(address, "--tls_dir=" + folder.path("now/admin")), 24, 80);
  top.Until("0 groups");
  coordinator_->Signal(SIGKILL);
  coordinator_->Wait();
  folder.Link("now", folder.path("second"));  // another authority, another token
  top.Until("cannot reach " + address);
  const size_t before = top.shown();
  coordinator_ = std::make_unique<Process>(std::vector<std::string>{
      kProgram, "--listen=" + address, "--tls_dir=" + own, "--tokens=" + own + "/tokens"});
  top.Until("0 groups", before);
  top.Type('q');
  top.Until(kLeave);
  EXPECT_EQ(top.Wait(), 0);
}

TEST_F(CtlProgramTest, TopIntoAPipeThatIsLeftEnds) {
  const std::string address = Start();
  const Ran ran = RunToEnd(
      {"/bin/sh", "-c",
       absl::StrCat(kCtl, " top --interval=1ms --address=", address, " | head -n 1; exit 0")});
  EXPECT_THAT(ran.output, StartsWith("syncnorm "));
  EXPECT_THAT(ran.errors, HasSubstr("cannot write the answer: Broken pipe"));
}

TEST_F(CtlProgramTest, OneFolderIsEnoughFromCertsToDrain) {
  const syncnorm::testing::TestFolder folder;
  const std::string certs = folder.path("certs");
  Ran ran = RunToEnd({kCtl, "certs", "--out=" + certs, "--coordinator=coordinator"});
  EXPECT_EQ(ran.status, 0) << ran.errors;
  const std::string own = certs + "/coordinator";
  const std::string address = Start({"--tls_dir=" + own, "--tokens=" + own + "/tokens"});
  const std::string where = "--address=" + address;
  for (const char* end : {"/coordinator", "/worker", "/admin"}) {
    ran = RunToEnd({kCtl, "health", where, "--tls_dir=" + certs + end});
    EXPECT_EQ(ran.status, 0) << ran.errors;
  }
  ran = RunToEnd({kCtl, "health", where});
  EXPECT_EQ(ran.status, 1) << "it shows no certificate";
  ran = RunToEnd({kCtl, "status", where, "--tls_dir=" + certs + "/admin"});
  EXPECT_THAT(ran.output, AllOf(HasSubstr("  TLS, tokens\n  its certificate ends in 90 days\n")));
  ran = RunToEnd({kCtl, "drain", where, "--tls_dir=" + certs + "/worker"});
  EXPECT_EQ(ran.status, 1);
  ran = RunToEnd({kCtl, "drain", "--wait", where, "--tls_dir=" + certs + "/admin"});
  EXPECT_EQ(ran.status, 0) << ran.errors;
  EXPECT_EQ(ran.output, address + ": drained\n");
  EXPECT_EQ(coordinator_->Wait(), 0);
}

}  // namespace
}  // namespace syncnorm::server
