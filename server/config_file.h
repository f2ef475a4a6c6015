// A configuration file: YAML, one flat map from names to single values.
//
//   listen: 0.0.0.0:7070
//   tls_dir: /etc/syncnorm/tls
//   round_timeout: 30s
//
// Thread-safety: may be called concurrently.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace syncnorm::server {

struct ConfigEntry {
  std::string name;
  std::string value;
  std::string remark;  // a comment at the end of its line; not read
  int line = 0;        // from 1; not written
};

// In the file's order; no name stands there twice.  Errors name the file and, where it is a line's,
// the line: kNotFound, or kInvalidArgument.
absl::StatusOr<std::vector<ConfigEntry>> ReadConfig(const std::string& path);

// A text that ReadConfig reads.
std::string ConfigText(const std::vector<ConfigEntry>& entries);

}  // namespace syncnorm::server
