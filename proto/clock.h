// Clock: where time comes from.  Monotonic: absl::Time here is time since the
// machine's start, not of day, so a step of the wall clock changes nothing.
// The real clocks live in clock.cc; tests and the simulator bring their own.
//
// Thread-safety: Now() may be called concurrently.
#pragma once

#include "absl/time/time.h"

namespace syncnorm {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() = 0;
};

// CLOCK_MONOTONIC.  Never destroyed.
Clock& MonotonicClock();

// Time of day, and not monotonic: only for what ends at a date, as certificates and tokens do.
// Never destroyed.
Clock& WallClock();

}  // namespace syncnorm
