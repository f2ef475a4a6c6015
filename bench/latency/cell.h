// One run of one lane in one cell: its coordinator and its workers started,
// waited for, and their reports gathered.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "bench/latency/lane.h"

namespace syncnorm::bench {

struct Sample {
  double p50_us = 0;  // as rank 0 saw it
  double p99_us = 0;
  double wall_us_per_round = 0;
  double coordinator_cpu_us_per_contribution = 0;  // 0 in a lane without a coordinator
  double client_cpu_us_per_round = 0;              // mean over the workers
};

// Runs it, with its files in `dir`, a folder that does not exist yet.  Ends with
// an error, and no process left, if a process fails, a result is wrong, or
// `timeout` passes.  kCancelled once Interrupted() (process.h).
absl::StatusOr<Sample> RunCell(const Lane& lane, const Cell& cell, const Place& place,
                               const std::string& dir, absl::Duration timeout);

}  // namespace syncnorm::bench
