// Configuration: all options of the coordinator's program, as the command line,
// the environment, the file and the defaults say, in that order; and where each
// came from.
//
// Callers may rely on:
//   * Every value was looked at, also one that another stands for.
//   * Errors are kInvalidArgument or kNotFound, of one line; they name the value as it stands where
//     it came from: "--listen: ...", "SYNCNORM_COORDINATOR_LISTEN: ...", "FILE:3: listen: ...".
//
// Thread-safety: immutable once made.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/option_sources.h"
#include "server/options.h"

namespace syncnorm::server {

class Configuration {
 public:
  // `arguments` without the program's name; `variables` as "NAME=value".  Reads the file, but none
  // of those that the options name.
  static absl::StatusOr<Configuration> Make(std::vector<std::string> arguments,
                                            std::vector<std::string> variables);

  // With the files of --tls_dir, where they have no path of their own.
  const Options& options() const { return options_; }

  // What can be known without listening: that the certificates, the tokens, the dump_dir and the
  // folder of the port_file can be used.
  absl::Status CheckFiles() const;

  // As a file that --config takes, each line with where it came from.
  std::string ToYaml() const;

  // The same again, from the file as it is now.
  absl::StatusOr<Configuration> Again() const { return Make(arguments_, variables_); }
  // The options that have another value there, by name.
  std::vector<std::string> Differences(const Configuration& other) const;

 private:
  Configuration() = default;

  absl::Status Apply(const std::vector<Setting>& settings);
  // Of options that depend on each other.
  absl::Status CheckTogether() const;
  absl::Status CheckSecurity() const;
  absl::Status CheckAdmin() const;
  absl::Status Bad(const std::string& option, const std::string& why) const;

  std::vector<std::string> arguments_;
  std::vector<std::string> variables_;
  Options given_;                           // as said
  Options options_;                         // and completed
  std::map<std::string, Setting> origins_;  // by option; none: its default
};

}  // namespace syncnorm::server
