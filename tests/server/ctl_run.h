// syncnormctl as a call: its command line in, its outputs and its exit status out.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "server/ctl_command.h"
#include "tests/server/process.h"

namespace syncnorm::server {

// A FILE that is text in the end.
class TextFile {
 public:
  TextFile() : file_(open_memstream(&text_, &size_)) {}
  ~TextFile() {
    std::fclose(file_);
    std::free(text_);
  }
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;

  std::FILE* file() { return file_; }
  std::string text() {
    std::fflush(file_);
    return std::string(text_, size_);
  }

 private:
  char* text_ = nullptr;
  size_t size_ = 0;
  std::FILE* file_;
};

inline Ran Ctl(const std::vector<std::string>& arguments,
               const std::map<std::string, std::string>& environment = {}) {
  TextFile out;
  TextFile err;
  Ran ran;
  ran.status = RunCtl(
      arguments,
      [&environment](const char* name) {
        const auto found = environment.find(name);
        return found == environment.end() ? std::string() : found->second;
      },
      out.file(), err.file());
  ran.output = out.text();
  ran.errors = err.text();
  return ran;
}

}  // namespace syncnorm::server
