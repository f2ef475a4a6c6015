#include "server/file_watch.h"

#include <sys/stat.h>

#include <utility>

namespace syncnorm::server {

FileWatch::FileWatch(std::vector<std::string> paths) : paths_(std::move(paths)), stamps_(Look()) {}

std::vector<FileWatch::Stamp> FileWatch::Look() const {
  std::vector<Stamp> stamps;
  for (const std::string& path : paths_) {
    struct stat s = {};
    stat(path.c_str(), &s);  // a file that is not there is all zeros
    stamps.push_back({static_cast<int64_t>(s.st_dev), static_cast<int64_t>(s.st_ino),
                      static_cast<int64_t>(s.st_size), s.st_mtim.tv_sec, s.st_mtim.tv_nsec});
  }
  return stamps;
}

bool FileWatch::Changed() {
  std::vector<Stamp> now = Look();
  if (now == stamps_) return false;
  stamps_ = std::move(now);
  return true;
}

}  // namespace syncnorm::server
