#include "server/ctl_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

constexpr mode_t kFolderMode = 0755;

absl::Status Cannot(const char* what, const std::string& path, int error = errno) {
  const std::string text = absl::StrCat("cannot ", what, " ", path, ": ", std::strerror(error));
  if (error == EEXIST) return absl::AlreadyExistsError(text);
  return absl::FailedPreconditionError(text);
}

// Of a file that was there before; none: this process's.
using Owner = const struct stat*;

absl::Status WriteNew(const std::string& path, const NewFile& file, Owner owner) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return Cannot("make", path);
  const absl::Cleanup close_it = [fd] { close(fd); };
  if (owner != nullptr && (owner->st_uid != geteuid() || owner->st_gid != getegid()) &&
      fchown(fd, owner->st_uid, owner->st_gid) != 0) {
    return Cannot("give the old one's owner to", path);
  }
  // Whatever the umask is.
  if (fchmod(fd, file.mode) != 0) return Cannot("set the rights of", path);
  for (size_t done = 0; done < file.text.size();) {
    const ssize_t n = write(fd, file.text.data() + done, file.text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Cannot("write", path);
    done += static_cast<size_t>(n);
  }
  // A full disk may be noticed only here.
  if (fsync(fd) != 0) return Cannot("write", path);
  return absl::OkStatus();
}

// Fails if there is something, where the file system can tell.
int RenameToNew(const std::string& from, const std::string& to) {
  const int renamed = renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  if (renamed == 0 || (errno != EINVAL && errno != ENOSYS)) return renamed;
  return rename(from.c_str(), to.c_str());
}

absl::Status MakeFolder(const std::string& path) {
  if (mkdir(path.c_str(), kFolderMode) != 0) return Cannot("make", path);
  return chmod(path.c_str(), kFolderMode) == 0 ? absl::OkStatus()
                                               : Cannot("set the rights of", path);
}

// The first part of a path below a folder.
std::string Top(const std::string& path) { return path.substr(0, path.find('/')); }

// Into a folder that nobody else sees.
absl::Status Stage(const std::string& staging, const std::vector<NewFile>& files) {
  for (const NewFile& file : files) {
    const std::string folder = absl::StrCat(staging, "/", Top(file.path));
    if (Top(file.path) != file.path && !Exists(folder)) {
      if (absl::Status made = MakeFolder(folder); !made.ok()) return made;
    }
    if (absl::Status s = WriteNew(absl::StrCat(staging, "/", file.path), file, nullptr); !s.ok()) {
      return s;
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool Exists(const std::string& path) {
  struct stat found = {};
  return lstat(path.c_str(), &found) == 0;
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.is_open() && !file.bad()) return text;
  return absl::NotFoundError(absl::StrCat(path, ": cannot be read: ", std::strerror(errno)));
}

absl::Status MakeFiles(const std::string& folder, const std::vector<NewFile>& files) {
  const bool made_folder = !Exists(folder);
  if (made_folder) {
    if (absl::Status made = MakeFolder(folder); !made.ok()) return made;
  }
  std::string staging = absl::StrCat(folder, "/.new-XXXXXX");
  const bool made_staging = mkdtemp(staging.data()) != nullptr;
  const int error = errno;
  bool done = false;
  const absl::Cleanup tidy = [&] {
    std::error_code ignored;
    if (made_staging) std::filesystem::remove_all(staging, ignored);
    if (made_folder && !done) rmdir(folder.c_str());
  };
  if (!made_staging) return Cannot("write to", folder, error);
  if (absl::Status staged = Stage(staging, files); !staged.ok()) return staged;

  std::set<std::string> tops;
  for (const NewFile& file : files) tops.insert(Top(file.path));
  std::set<std::string> moved;
  for (const std::string& top : tops) {
    const std::string to = absl::StrCat(folder, "/", top);
    if (RenameToNew(absl::StrCat(staging, "/", top), to) != 0) {
      const absl::Status failed = Cannot("make", to);
      for (const std::string& one : moved) {
        rename(absl::StrCat(folder, "/", one).c_str(), absl::StrCat(staging, "/", one).c_str());
      }
      return failed;
    }
    moved.insert(top);
  }
  done = true;
  return absl::OkStatus();
}

absl::Status ReplaceFiles(const std::string& folder, const std::vector<NewFile>& files) {
  const std::string mark = absl::StrCat(".", getpid());
  const auto path_of = [&folder](const NewFile& file) {
    return absl::StrCat(folder, "/", file.path);
  };
  const auto fresh = [&](const NewFile& file) { return absl::StrCat(path_of(file), ".new", mark); };
  const auto kept = [&](const NewFile& file) { return absl::StrCat(path_of(file), ".old", mark); };
  // What is left of them when all has gone well: the old ones.
  const absl::Cleanup tidy = [&] {
    for (const NewFile& file : files) {
      unlink(fresh(file).c_str());
      unlink(kept(file).c_str());
    }
  };
  for (const NewFile& file : files) {
    struct stat old = {};
    if (stat(path_of(file).c_str(), &old) != 0) return Cannot("replace", path_of(file));
    if (absl::Status s = WriteNew(fresh(file), file, &old); !s.ok()) return s;
    if (link(path_of(file).c_str(), kept(file).c_str()) != 0) {
      return Cannot("keep the old", path_of(file));
    }
  }
  for (size_t i = 0; i < files.size(); ++i) {
    if (rename(fresh(files[i]).c_str(), path_of(files[i]).c_str()) == 0) continue;
    const absl::Status failed = Cannot("replace", path_of(files[i]));
    for (size_t j = 0; j < i; ++j) rename(kept(files[j]).c_str(), path_of(files[j]).c_str());
    return failed;
  }
  return absl::OkStatus();
}

}  // namespace syncnorm::server
