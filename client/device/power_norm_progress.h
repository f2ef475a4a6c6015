// What the CPU knows of a DevicePowerNorm's iters, which lives on the device: it is at least this.
//
// Thread-safety: thread-safe.
#pragma once

#include <syncnorm/device_power_norm.h>

#include <atomic>
#include <cstdint>

#include "absl/status/statusor.h"

namespace syncnorm {

struct DevicePowerNorm::Progress {
  explicit Progress(int64_t warm_up) : warmup_iters(warm_up) {}

  const int64_t warmup_iters;
  std::atomic<int64_t> iters{0};

  bool warm_up_is_over() const { return iters.load(std::memory_order_acquire) >= warmup_iters; }
  // A forward statistic has come.
  void Observe(const absl::StatusOr<Moments>& result);
};

}  // namespace syncnorm
