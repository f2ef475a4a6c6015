#include "proto/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace syncnorm {
namespace {

class Monotonic final : public Clock {
 public:
  absl::Time Now() override {
    return absl::UnixEpoch() +
           absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
  }
};

class Wall final : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
};

}  // namespace

Clock& MonotonicClock() {
  static Monotonic* const clock = new Monotonic;
  return *clock;
}

Clock& WallClock() {
  static Wall* const clock = new Wall;
  return *clock;
}

}  // namespace syncnorm
