// The timed loop that every worker of every lane runs, and its report.
//
//   for each round:   Prepare | clock | Exchange | clock | Check
//
// Only Exchange is timed: it starts with the moments in memory and ends with
// the group's result in memory.  Prepare stands for the kernels that leave
// moments behind; Check compares the result with the expected one and fails
// the run when they differ.
//
// CPU time is read from the processes' CPU clocks (user + system, nanoseconds,
// all threads) when the warm-up ends and when the last round ends, so start-up
// and connecting are in no number.  Rank 0 reads the coordinator's.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm::bench {

// One worker's end of a lane.  Thread-compatible.
class WorkerEnd {
 public:
  virtual ~WorkerEnd() = default;

  // Makes the contribution of `phase` ready (workload.h).
  virtual void Prepare(int phase) = 0;

  // Contributes, and returns when this worker has the group's result.
  virtual absl::Status Exchange() = 0;

  // Whether the result of the last Exchange is that of `phase`.
  virtual absl::Status Check(int phase) = 0;
};

struct RoundPlan {
  int workers = 0;
  int warmup_rounds = 0;
  int rounds = 0;
  pid_t coordinator_pid = 0;  // 0: this worker does not read a coordinator's CPU clock
};

struct WorkerReport {
  double p50_us = 0;
  double p99_us = 0;
  double wall_us_per_round = 0;  // whole loop over rounds: Prepare and Check included
  double cpu_us_per_round = 0;   // of this worker's process
  double coordinator_cpu_us_per_contribution = 0;  // 0 without coordinator_pid
};

// Runs the plan.  Returns the first error of Exchange or Check.
absl::StatusOr<WorkerReport> RunRounds(const RoundPlan& plan, WorkerEnd* end);

// The q-quantile (nearest rank) of `values`, which is not empty.
double Quantile(std::vector<double> values, double q);

// The file in which worker `rank` leaves its report for the harness.
std::string ReportPath(const std::string& dir, int rank);
absl::Status WriteReport(const std::string& dir, int rank, const WorkerReport& report);
absl::StatusOr<WorkerReport> ReadReport(const std::string& dir, int rank);

}  // namespace syncnorm::bench
