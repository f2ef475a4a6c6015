// Child processes of the benchmark.
//
// A Process is always exec'd (a program that holds gRPC threads must not be
// forked), in a process group of its own, with its output in a file.  It does
// not outlive its Process object, nor the harness: the kernel ends it when the
// harness dies.
//
// Ctrl-C: CatchSignals makes SIGINT and SIGTERM set a flag that every wait here
// looks at, so that destructors run, and with them whatever they take down.
//
// Thread-safety: one thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace syncnorm::bench {

void CatchSignals();
bool Interrupted();

class Process {
 public:
  // Starts `command` (found along PATH); its stdout and stderr go to `log_path`.
  static absl::StatusOr<Process> Start(const std::vector<std::string>& command,
                                       const std::string& log_path);
  Process(Process&& other) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();  // Stop()

  pid_t pid() const { return pid_; }

  // Waits for the exit.  OK for status 0; kInternal, with the end of the log,
  // for any other; kDeadlineExceeded at `deadline`; kCancelled once Interrupted().
  absl::Status Wait(absl::Time deadline);

  // The same, but goes on waiting when Interrupted().
  absl::Status WaitRegardless(absl::Time deadline);

  // Waits until all have exited: OK if all had status 0, else the first failure
  // as soon as it happens, naming the index of the process.
  static absl::Status WaitForAll(std::vector<Process>* processes, absl::Time deadline);

  // Ends the process if it still runs: SIGTERM, and SIGKILL after two seconds.
  void Stop();

 private:
  Process(pid_t pid, int exit_fd, std::string log_path);
  absl::Status WaitUntil(absl::Time deadline, bool interruptible);
  absl::Status Reap();  // it has exited: its status, as Wait returns it

  pid_t pid_;    // 0 when it has exited
  int exit_fd_;  // readable when the process has exited
  std::string log_path_;
};

// Starts `command` and waits for it, Ctrl-C or not (for what must not be left
// half done): a status as from Process::Wait, never kCancelled.
absl::Status RunToEnd(const std::vector<std::string>& command, const std::string& log_path,
                      absl::Duration timeout);

// Waits until `path` exists with a complete line and returns that line; an
// error when `writer` exits before, at `deadline`, or once Interrupted().
absl::StatusOr<std::string> WaitForLine(const std::string& path, Process* writer,
                                        absl::Time deadline);

// Whether `program` is on PATH.
bool OnPath(const std::string& program);

// The running program, and its folder.
std::string OwnProgram();
std::string OwnDir();

}  // namespace syncnorm::bench
