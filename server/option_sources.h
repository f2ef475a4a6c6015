// Where options come from: the command line, the environment and a file.  Each
// gives what it says, without looking at what the others say.
//
// Thread-safety: may be called concurrently.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/option_table.h"

namespace syncnorm::server {

struct Setting {
  const Option* option = nullptr;
  std::string value;
  std::string name;  // as it stands there, for errors: "--listen", "FILE:3: listen"
  std::string from;  // "flag", "environment", "file FILE:3"
};

// --name=value, --name value, --name and --noname for switches; one dash is enough.  What comes
// later stands for what came before.  kInvalidArgument: an option that is not known, one without
// its value, or something else than options.
absl::StatusOr<std::vector<Setting>> FromCommandLine(const std::vector<std::string>& arguments);

// SYNCNORM_COORDINATOR_NAME of "NAME=value" texts.  kInvalidArgument: one that is not known, unless
// it is of those that Kubernetes makes for every Service of the namespace, which may well be called
// syncnorm-coordinator, too.
absl::StatusOr<std::vector<Setting>> FromEnvironment(const std::vector<std::string>& variables);

// Errors as ReadConfig; kInvalidArgument also for a name that is not known.
absl::StatusOr<std::vector<Setting>> FromFile(const std::string& path);

}  // namespace syncnorm::server
