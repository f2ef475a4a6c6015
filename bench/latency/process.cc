#include "bench/latency/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

namespace syncnorm::bench {
namespace {

volatile sig_atomic_t interrupted = 0;

std::string Tail(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  constexpr size_t kTailBytes = 600;  // a few lines: what went wrong stands at the end
  const std::string all = text.str();
  return all.substr(all.size() - std::min(all.size(), kTailBytes));
}

// The longest sleep of a wait: bounds the delay of a signal that arrives between
// the test of its flag and poll.
constexpr absl::Duration kSlice = absl::Milliseconds(500);

int ToPollMs(absl::Duration timeout) {
  return static_cast<int>(absl::ToInt64Milliseconds(std::max(timeout, absl::ZeroDuration())));
}

// Waits until `fd` is readable, at most `timeout`.  A signal ends the wait early.
bool Readable(int fd, absl::Duration timeout) {
  pollfd entry{fd, POLLIN, 0};
  return poll(&entry, 1, ToPollMs(timeout)) > 0;
}

}  // namespace

void CatchSignals() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool Interrupted() { return interrupted != 0; }

absl::StatusOr<Process> Process::Start(const std::vector<std::string>& command,
                                       const std::string& log_path) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (log < 0) return absl::ErrnoToStatus(errno, log_path);

  const pid_t harness = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    // Only async-signal-safe calls until the exec.
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != harness) _exit(127);  // it died before prctl
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  const int fork_error = errno;
  close(log);
  if (pid < 0) return absl::ErrnoToStatus(fork_error, "fork");
  // Not the wrapper: glibc 2.36 declares it without extern "C".
  const int exit_fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (exit_fd < 0) {
    const int error = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return absl::ErrnoToStatus(error, "pidfd_open");
  }
  return Process(pid, exit_fd, log_path);
}

Process::Process(pid_t pid, int exit_fd, std::string log_path)
    : pid_(pid), exit_fd_(exit_fd), log_path_(std::move(log_path)) {}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      exit_fd_(std::exchange(other.exit_fd_, -1)),
      log_path_(std::move(other.log_path_)) {}

Process::~Process() {
  Stop();
  if (exit_fd_ >= 0) close(exit_fd_);
}

absl::Status Process::Wait(absl::Time deadline) {
  return WaitUntil(deadline, /*interruptible=*/true);
}

absl::Status Process::WaitRegardless(absl::Time deadline) {
  return WaitUntil(deadline, /*interruptible=*/false);
}

absl::Status Process::WaitUntil(absl::Time deadline, bool interruptible) {
  while (!Readable(exit_fd_, std::min(deadline - absl::Now(), kSlice))) {
    if (interruptible && Interrupted()) return absl::CancelledError("interrupted");
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat("still running; log: ", Tail(log_path_)));
    }
  }
  return Reap();
}

absl::Status Process::WaitForAll(std::vector<Process>* processes, absl::Time deadline) {
  for (;;) {
    std::vector<pollfd> running;  // an exited one keeps its place, with a descriptor poll ignores
    for (const Process& process : *processes) {
      running.push_back({process.pid_ == 0 ? -1 : process.exit_fd_, POLLIN, 0});
    }
    const bool all_exited = std::all_of(running.begin(), running.end(),
                                        [](const pollfd& entry) { return entry.fd == -1; });
    if (all_exited) return absl::OkStatus();
    poll(running.data(), running.size(), ToPollMs(std::min(deadline - absl::Now(), kSlice)));
    for (size_t i = 0; i < running.size(); ++i) {
      if ((running[i].revents & POLLIN) == 0) continue;
      if (absl::Status status = (*processes)[i].Reap(); !status.ok()) {
        return absl::Status(status.code(), absl::StrCat("process ", i, ": ", status.message()));
      }
    }
    if (Interrupted()) return absl::CancelledError("interrupted");
    if (absl::Now() >= deadline) return absl::DeadlineExceededError("still running");
  }
}

absl::Status Process::Reap() {
  int status = 0;
  waitpid(std::exchange(pid_, 0), &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  const std::string how = WIFEXITED(status) ? absl::StrCat("exit status ", WEXITSTATUS(status))
                                            : absl::StrCat("signal ", WTERMSIG(status));
  return absl::InternalError(absl::StrCat(how, "; log: ", Tail(log_path_)));
}

void Process::Stop() {
  if (pid_ == 0) return;
  kill(-pid_, SIGTERM);
  const absl::Time deadline = absl::Now() + absl::Seconds(2);
  while (!Readable(exit_fd_, deadline - absl::Now()) && absl::Now() < deadline) {
  }
  kill(-pid_, SIGKILL);  // whatever is left of its group
  waitpid(std::exchange(pid_, 0), nullptr, 0);
}

absl::Status RunToEnd(const std::vector<std::string>& command, const std::string& log_path,
                      absl::Duration timeout) {
  absl::StatusOr<Process> process = Process::Start(command, log_path);
  if (!process.ok()) return process.status();
  return process->WaitRegardless(absl::Now() + timeout);
}

absl::StatusOr<std::string> WaitForLine(const std::string& path, Process* writer,
                                        absl::Time deadline) {
  for (;;) {
    std::ifstream file(path);
    std::string line;
    if (std::getline(file, line) && !file.eof()) return line;
    // 2 ms: start-up only, nothing is being timed yet.
    absl::Status exit = writer->Wait(std::min(deadline, absl::Now() + absl::Milliseconds(2)));
    if (exit.ok()) return absl::InternalError("exited before it was ready");
    if (!absl::IsDeadlineExceeded(exit) || absl::Now() >= deadline) return exit;
  }
}

bool OnPath(const std::string& program) {
  const char* path = std::getenv("PATH");
  if (path == nullptr) return false;
  for (absl::string_view dir : absl::StrSplit(path, ':')) {
    if (access(absl::StrCat(dir, "/", program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

std::string OwnProgram() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

std::string OwnDir() { return std::filesystem::path(OwnProgram()).parent_path().string(); }

}  // namespace syncnorm::bench
