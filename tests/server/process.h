// Process: a program that a test starts, watches and ends.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace syncnorm::server {

class Process {
 public:
  // `environment` is added to this process's.
  explicit Process(const std::vector<std::string>& command,
                   const std::vector<std::string>& environment = {});
  ~Process();  // kills it if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // The next line of its standard output or of its errors, without the newline; "" at the end.
  std::string ReadLine() { return ReadLine(out_); }
  std::string ReadErrorLine() { return ReadLine(err_); }
  void Signal(int signal);
  // Waits for its end.  The exit status, or 128 + the signal that ended it.
  int Wait();
  // What is left of its outputs; after Wait.
  std::string Output();
  std::string Errors();

 private:
  static std::string ReadLine(int fd);
  static std::string ReadAll(int fd);

  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
};

// Runs a command to its end: its exit status, its standard output and its errors.
struct Ran {
  int status = -1;
  std::string output;
  std::string errors;
};
Ran RunToEnd(const std::vector<std::string>& command,
             const std::vector<std::string>& environment = {});

}  // namespace syncnorm::server
