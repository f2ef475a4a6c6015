// What must hold whatever comes in.  A broken promise is told on stderr and ends
// the process by abort(), which is what a fuzzer takes for a finding.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace syncnorm::fuzz {

[[noreturn]] inline void Broken(const char* file, int line, const std::string& promise) {
  std::fprintf(stderr, "%s:%d: the promise is broken: %s\n", file, line, promise.c_str());
  std::abort();
}

}  // namespace syncnorm::fuzz

// `promise` is evaluated only when it is broken.
#define SYNCNORM_REQUIRE(condition, promise)                                   \
  do {                                                                         \
    if (!(condition)) ::syncnorm::fuzz::Broken(__FILE__, __LINE__, (promise)); \
  } while (false)
