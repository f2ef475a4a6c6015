#include "tests/server/full_pipe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace syncnorm::server {
namespace {

constexpr char kFiller = '\x7f';  // stands in no text

}  // namespace

FullPipe::FullPipe() : path_(folder_.path("pipe")) {
  EXPECT_EQ(mkfifo(path_.c_str(), 0600), 0);
  fd_ = open(path_.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  EXPECT_GE(fd_, 0);
  // Down to the last byte: a pipe that has no room for a page may have some for a line.
  for (const size_t size : {4096, 1}) {
    const std::string filler(size, kFiller);
    while (write(fd_, filler.data(), size) > 0) {
    }
    EXPECT_EQ(errno, EAGAIN);
  }
}

FullPipe::~FullPipe() { close(fd_); }

const std::string& FullPipe::ReadUntil(const std::string& text) {
  while (read_.find(text) == std::string::npos && !::testing::Test::HasFailure()) {
    pollfd waiting = {fd_, POLLIN, 0};
    EXPECT_EQ(poll(&waiting, 1, /*timeout=*/30'000), 1) << "no " << text << " in " << read_;
    char buffer[4096];
    const ssize_t n = read(fd_, buffer, sizeof(buffer));
    if (n > 0) read_.append(buffer, static_cast<size_t>(n));
    std::erase(read_, kFiller);
  }
  return read_;
}

}  // namespace syncnorm::server
