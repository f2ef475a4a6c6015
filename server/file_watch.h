// FileWatch: tells whether files have changed, by what stat says of them: the
// same file is the same device, inode, size and time of modification.  Symlinks
// are followed, so that swapping one (as Kubernetes does) is a change.
//
// Thread-safety: thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace syncnorm::server {

class FileWatch {
 public:
  // Takes them as they are now.
  explicit FileWatch(std::vector<std::string> paths);

  // Whether one of them is another than at the last call.
  bool Changed();

 private:
  using Stamp = std::array<int64_t, 5>;

  std::vector<Stamp> Look() const;

  std::vector<std::string> paths_;
  std::vector<Stamp> stamps_;
};

}  // namespace syncnorm::server
