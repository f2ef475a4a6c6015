#include "server/dump_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "server/log.h"

namespace syncnorm::server {

std::string DumpFiles::Name(absl::string_view group, uint64_t epoch) {
  std::string name = "syncnorm-";
  for (const char c : group) {
    name += absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-' ? c : '_';
  }
  return absl::StrCat(name, "-", epoch);
}

absl::Status DumpFiles::Check(const std::string& directory) {
  struct stat found = {};
  int why = 0;
  if (stat(directory.c_str(), &found) != 0) {
    why = errno;
  } else if (!S_ISDIR(found.st_mode)) {
    why = ENOTDIR;
  } else if (faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
    why = errno;
  }
  if (why == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("cannot write dumps to ", directory, ": ", std::strerror(why)));
}

absl::Status DumpFiles::Write(absl::string_view name, absl::string_view text) {
  if (!on()) {
    LogReport(std::string(text));
    ++written_;
    return absl::OkStatus();
  }
  std::string path;
  do {
    path = absl::StrCat(directory_, "/", name, "-", ++number_, ".json");
  } while (access(path.c_str(), F_OK) == 0);
  const absl::Status status = Put(path, text);
  if (!status.ok()) {
    ++failed_;
    if (!failing_) Log(LogLevel::kWarning, absl::StrCat(status.message(), "; rounds go on"));
    failing_ = true;
    return status;
  }
  ++written_;
  failing_ = false;
  Log(LogLevel::kInfo, absl::StrCat("wrote ", path));
  files_.push_back(std::move(path));
  if (files_.size() > max_files_) {
    unlink(files_.front().c_str());
    files_.pop_front();
  }
  return status;
}

absl::Status DumpFiles::Put(const std::string& path, absl::string_view text) const {
  const std::string temporary = absl::StrCat(path, ".", getpid(), ".tmp");
  // A report names hosts and layers: for the owner and the group.
  const int file = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  bool good = file >= 0;
  while (good && !text.empty()) {
    const ssize_t n = write(file, text.data(), text.size());
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
    good = n > 0 || (n < 0 && errno == EINTR);
  }
  int why = errno;
  // A full disk may be told only here.
  if (file >= 0 && close(file) != 0 && good) {
    good = false;
    why = errno;
  }
  if (good && std::rename(temporary.c_str(), path.c_str()) != 0) {
    good = false;
    why = errno;
  }
  if (good) return absl::OkStatus();
  if (file >= 0) unlink(temporary.c_str());
  return absl::UnavailableError(absl::StrCat("cannot write dump ", path, ": ", std::strerror(why)));
}

}  // namespace syncnorm::server
