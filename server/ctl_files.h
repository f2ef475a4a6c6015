// Files that are written as a whole: all of them, or none.
//
// Callers may rely on:
//   * Each has its rights from its first moment: never may more people read it than in the end.
//   * After an error everything is as it was, and no file is left beside.
//   * Errors name the path and say why.
//
// Thread-safety: functions of the files.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm::server {

struct NewFile {
  std::string path;  // below the folder: "ca.crt", "worker/tls.key"
  std::string text;
  mode_t mode = 0644;
};

// Makes them in `folder`; it and the folders below are made if they are not there.
// kAlreadyExists: something of that name is there already.
absl::Status MakeFiles(const std::string& folder, const std::vector<NewFile>& files);

// Puts them in place of those that are there, one after the other in this order, each at once; the
// new ones have the owner of the old ones.
absl::Status ReplaceFiles(const std::string& folder, const std::vector<NewFile>& files);

bool Exists(const std::string& path);
// kNotFound: why it cannot be read.
absl::StatusOr<std::string> ReadText(const std::string& path);

}  // namespace syncnorm::server
