#include "client/fork_guard.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>

#include "absl/strings/str_cat.h"

namespace syncnorm {
namespace {

std::atomic<uint64_t> generation{0};

// Counted from the first guard on; earlier forks concern nobody.
uint64_t Generation() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { ++generation; });
  static_cast<void>(registered);
  return generation.load(std::memory_order_relaxed);
}

}  // namespace

ForkGuard::ForkGuard() : generation_(Generation()), pid_(getpid()) {}

bool ForkGuard::Forked() const { return generation.load(std::memory_order_relaxed) != generation_; }

absl::Status ForkGuard::Check() const {
  if (!Forked()) [[likely]]
    return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("client created in pid ", pid_, " used in pid ",
                                                    getpid(), "; create it after fork"));
}

}  // namespace syncnorm
