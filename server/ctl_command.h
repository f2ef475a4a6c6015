// The commands of syncnormctl: a file ctl_NAME.cc each, and one table of them,
// from which the command line is read and the help is written.
//
// Thread-safety: functions of their arguments; CtlTop is for one at a time, as it takes the
// terminal.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/ctl_flags.h"

namespace syncnorm::server {

struct CtlCommand {
  const char* name;
  const char* summary;  // one line
  const char* more;     // further lines of its help; may be empty
  bool asks;            // a coordinator: takes the flags of the connection
  std::vector<std::string> flags;
  // Writes to `out`; the exit status.  An error is one line, for stderr, and exit status 1.
  absl::StatusOr<int> (*run)(const CtlFlags& flags, std::FILE* out);

  // With those of the connection.
  std::vector<std::string> all_flags() const;
};

// In the order of the help.
absl::Span<const CtlCommand> CtlCommands();

absl::StatusOr<int> CtlCerts(const CtlFlags& flags, std::FILE* out);
absl::StatusOr<int> CtlDrain(const CtlFlags& flags, std::FILE* out);
absl::StatusOr<int> CtlGroups(const CtlFlags& flags, std::FILE* out);
absl::StatusOr<int> CtlHealth(const CtlFlags& flags, std::FILE* out);
absl::StatusOr<int> CtlReport(const CtlFlags& flags, std::FILE* out);
absl::StatusOr<int> CtlRing(const CtlFlags& flags, std::FILE* out);
absl::StatusOr<int> CtlStatus(const CtlFlags& flags, std::FILE* out);
absl::StatusOr<int> CtlTop(const CtlFlags& flags, std::FILE* out);

// The whole program after its name: reads the command line, runs the command, and writes the line
// of an error.  The exit status.
int RunCtl(const std::vector<std::string>& arguments, const CtlEnvironment& environment,
           std::FILE* out, std::FILE* err);

}  // namespace syncnorm::server
