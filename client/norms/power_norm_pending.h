// What of SyncPowerNorm is still under way, and what it keeps.  At most one statistic of each
// direction is: the next Forward needs running_phi, and the next Backward
// ema_gz, with all before them applied.
//
//   ForwardStatistic   under way --- Receive ---> received, or failed
//
// A ForwardStatistic is shared with its step's context, whose Backward may need it
// long after running_phi has moved on.
//
// Thread-safety: thread-compatible, as their SyncPowerNorm.
#pragma once

#include <syncnorm/power_norm.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "client/norms/kept_forwards.h"

namespace syncnorm {

struct SyncPowerNorm::ForwardStatistic {
  int64_t t = 0;
  MomentsFuture future;       // valid: under way
  absl::Status status;        // not OK: it failed
  uint64_t count = 0;         // over the group; 0: all was padding, or it failed
  std::vector<double> power;  // v_t, once received

  // Waits for the result; called once.  Returns `status`.
  absl::Status Receive();
};

struct SyncPowerNorm::Pending {
  std::shared_ptr<ForwardStatistic> forward;           // null: none
  MomentsFuture backward;                              // invalid: none
  std::shared_ptr<ForwardStatistic> backward_forward;  // of the same step as `backward`
  absl::Status untold;  // not OK: a failure that Save met, for CollectForward to tell
};

struct KeptPower {
  bool synchronised = false;
  uint64_t step = 0;
  std::vector<double> invstd;
  std::shared_ptr<SyncPowerNorm::ForwardStatistic> statistic;
};

struct SyncPowerNorm::Kept : norms::KeptForwards<KeptPower> {
  using KeptForwards::KeptForwards;
};

}  // namespace syncnorm
