// Options of the coordinator's program: its flags, checked.
//
// Thread-safety: called once, by main.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/log.h"
#include "server/server.h"

namespace syncnorm::server {

struct Options {
  ServerOptions server;
  std::string port_file;  // empty: none
  absl::Duration drain_grace;
  LogLevel log_level = LogLevel::kInfo;
};

// Reads the command line.  Prints and exits for --help and --version (0), and for a flag that is
// not known or cannot be read (1, one line).  kInvalidArgument names the flag whose value is not
// acceptable, and what is.
absl::StatusOr<Options> ParseOptions(int argc, char** argv);

}  // namespace syncnorm::server
