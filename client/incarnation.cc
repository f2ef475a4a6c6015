#include "client/incarnation.h"

#include <unistd.h>

#include <random>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "proto/wire.h"

namespace syncnorm {
namespace {

std::string RandomBytes() {
  std::random_device random;
  std::string bytes(wire::kIncarnationBytes, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

struct Process {
  absl::Mutex mutex;
  int pid ABSL_GUARDED_BY(mutex) = 0;
  std::string bytes ABSL_GUARDED_BY(mutex);
  std::set<std::string> held ABSL_GUARDED_BY(mutex);
};

Process& ThisProcess() {
  static Process* const process = new Process;
  return *process;
}

}  // namespace

uint64_t NewTicket() {
  std::random_device random;
  return (uint64_t{random()} << 32 | random()) | 1;  // 0: not told
}

Incarnation::Incarnation(std::string membership) : membership_(std::move(membership)) {
  Process& process = ThisProcess();
  absl::MutexLock lock(&process.mutex);
  // A child of a fork is a process of its own, and holds nothing yet.
  if (process.pid != getpid()) {
    process.pid = getpid();
    process.bytes = RandomBytes();
    process.held.clear();
  }
  holder_ = process.held.insert(membership_).second;
  bytes_ = holder_ ? process.bytes : RandomBytes();
}

Incarnation::~Incarnation() {
  if (!holder_) return;
  Process& process = ThisProcess();
  absl::MutexLock lock(&process.mutex);
  process.held.erase(membership_);
}

}  // namespace syncnorm
