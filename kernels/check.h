// CHECK: what only a bug of this library can cause.  Stays on in release
// builds.  Never used on what a peer, a user or the machine can cause: that is
// an absl::Status.
#pragma once

#include <cstdio>
#include <cstdlib>

#define SYNCNORM_CHECK(condition)                                                        \
  do {                                                                                   \
    if (!(condition)) [[unlikely]] {                                                     \
      std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
