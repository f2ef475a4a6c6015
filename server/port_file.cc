#include "server/port_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

absl::Status CannotWrite(const std::string& path, int why) {
  return absl::UnavailableError(
      absl::StrCat("cannot write port file ", path, ": ", std::strerror(why)));
}

}  // namespace

absl::Status CheckPortFile(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path();
  if (access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0) return absl::OkStatus();
  return CannotWrite(path, errno);
}

absl::Status WritePortFile(const std::string& path, int port) {
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  errno = 0;
  std::ofstream file(temporary);
  file << port << '\n';
  file.close();
  if (file.fail() || std::rename(temporary.c_str(), path.c_str()) != 0) {
    const int why = errno;
    std::remove(temporary.c_str());
    return CannotWrite(path, why);
  }
  return absl::OkStatus();
}

}  // namespace syncnorm::server
