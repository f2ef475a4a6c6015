// ForkGuard: tells whether this process is the one in which it was made.  gRPC
// does not survive a fork, and trainers fork (data loaders do): what was inherited
// must not be touched, not even to destroy it.
//
// Forked() costs one load: a handler that runs in every child counts the forks,
// so no system call is needed.
//
// Thread-safety: thread-safe.
#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace syncnorm {

class ForkGuard {
 public:
  ForkGuard();

  bool Forked() const;
  // OK, or kFailedPrecondition "client created in pid 10 used in pid 11; create it after fork".
  absl::Status Check() const;

 private:
  const uint64_t generation_;
  const int pid_;
};

}  // namespace syncnorm
