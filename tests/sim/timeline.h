// Timeline: virtual time, and what is to happen when.  Events at the same instant
// happen in the order in which they were planned, so a run is a function of its seed.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"

namespace syncnorm::sim {

class Timeline {
 public:
  absl::Time now() const { return now_; }
  // What is planned for the past happens now.
  void At(absl::Time when, std::function<void()> what);
  void After(absl::Duration wait, std::function<void()> what) { At(now_ + wait, std::move(what)); }

  // Does the next thing; false if there is none.
  bool Step();
  uint64_t steps() const { return steps_; }

 private:
  struct Event {
    absl::Time when;
    uint64_t number = 0;
    std::function<void()> what;
  };
  static bool Later(const Event& a, const Event& b) {
    return a.when != b.when ? a.when > b.when : a.number > b.number;
  }

  // An hour after the epoch: no time that the core computes with is before it.
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  uint64_t planned_ = 0;
  uint64_t steps_ = 0;
  std::vector<Event> heap_;
};

}  // namespace syncnorm::sim
