// FullPipe: a pipe with a name that takes nothing more until it is read: for
// programs whose output nobody reads.
#pragma once

#include <string>

#include "tests/support/certificates.h"

namespace syncnorm::server {

class FullPipe {
 public:
  FullPipe();
  ~FullPipe();
  FullPipe(const FullPipe&) = delete;
  FullPipe& operator=(const FullPipe&) = delete;

  // Whoever opens it for writing waits at the first byte.
  const std::string& path() const { return path_; }
  // Reads on until all that was written includes `text`; gives all of it so far.
  const std::string& ReadUntil(const std::string& text);

 private:
  const testing::TestFolder folder_;
  const std::string path_;
  int fd_ = -1;
  std::string read_;
};

}  // namespace syncnorm::server
