#include "server/ctl_files.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

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

// "worker" of "worker/tls.key"; none of a file in the folder itself.
std::string SubfolderOf(const NewFile& file) {
  const size_t slash = file.path.find('/');
  return slash == std::string::npos ? "" : file.path.substr(0, slash);
}

// Those that are not there: of the volumes of a container some or all are.
absl::Status MakeFolders(const std::string& folder, const std::vector<NewFile>& files,
                         std::vector<std::string>* made) {
  std::vector<std::string> wanted = {folder};
  for (const NewFile& file : files) {
    if (const std::string sub = SubfolderOf(file); !sub.empty()) {
      wanted.push_back(absl::StrCat(folder, "/", sub));
    }
  }
  for (const std::string& path : wanted) {
    if (Exists(path)) continue;
    if (mkdir(path.c_str(), kFolderMode) != 0) return Cannot("make", path);
    made->push_back(path);
    if (chmod(path.c_str(), kFolderMode) != 0) return Cannot("set the rights of", path);
  }
  return absl::OkStatus();
}

// Names of files that are not finished, or not needed any more, beside what they are for.
std::string Beside(const std::string& path, const char* what) {
  return absl::StrCat(path, ".", what, ".", getpid());
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
  std::vector<std::string> folders;
  std::vector<std::string> made;  // of the files, in their places
  bool done = false;
  const auto path_of = [&folder](const NewFile& file) {
    return absl::StrCat(folder, "/", file.path);
  };
  const absl::Cleanup tidy = [&] {
    if (done) return;
    for (const NewFile& file : files) unlink(Beside(path_of(file), "new").c_str());
    for (const std::string& path : made) unlink(path.c_str());
    for (auto it = folders.rbegin(); it != folders.rend(); ++it) rmdir(it->c_str());
  };
  if (absl::Status s = MakeFolders(folder, files, &folders); !s.ok()) return s;
  for (const NewFile& file : files) {
    if (absl::Status s = WriteNew(Beside(path_of(file), "new"), file, nullptr); !s.ok()) return s;
  }
  for (const NewFile& file : files) {
    const std::string path = path_of(file);
    if (RenameToNew(Beside(path, "new"), path) != 0) return Cannot("make", path);
    made.push_back(path);
  }
  done = true;
  return absl::OkStatus();
}

absl::Status ReplaceFiles(const std::string& folder, const std::vector<NewFile>& files) {
  const auto path_of = [&folder](const NewFile& file) {
    return absl::StrCat(folder, "/", file.path);
  };
  const auto fresh = [&](const NewFile& file) { return Beside(path_of(file), "new"); };
  const auto kept = [&](const NewFile& file) { return Beside(path_of(file), "old"); };
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
