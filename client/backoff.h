// How long a worker waits between attempts to reach the coordinator: 50 ms, doubling to `most`, as
// the transport's own (grpc_transport.cc); spread by rank, so that a thousand workers do not come
// in one instant.
//
// Thread-safety: a pure function.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace syncnorm {

// The `most` of one that may be a member already: the others wait for it, and the coordinator's
// patience is 150 ms (Timeouts.reconnect).
inline constexpr absl::Duration kMostToReturn = absl::Milliseconds(250);

// After `attempts` (1 or more) that have failed.
inline absl::Duration Backoff(int attempts, uint32_t rank, absl::Duration most) {
  // 2^20 x 50 ms is more than half a day.
  const absl::Duration doubled = absl::Milliseconds(50) * (1 << std::min(attempts - 1, 20));
  return std::min(doubled, most) * (0.75 + 0.5 * (rank % 16) / 16);
}

}  // namespace syncnorm
