// What one process of a run is told: the harness writes RoleOptions into one
// argument of its command line, and the process reads them back.
//
// Thread-safety: plain values and pure functions.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/latency/rounds.h"

namespace syncnorm::bench {

struct Cell {
  int workers = 0;
  int64_t channels = 0;
  int warmup_rounds = 0;
  int rounds = 0;
};

struct RoleOptions {
  std::string role;  // "coordinator", "worker"
  std::string lane;
  Cell cell;
  int rank = 0;
  std::string own_address;          // IPv4 of this process's host
  std::string coordinator_address;  // "IPV4:PORT"; empty in a lane without a coordinator
  pid_t coordinator_pid = 0;        // 0 likewise
  std::string dir;                  // of this run: the port file, the reports, a lane's own files
};

// "--role={...}" and back.  kInvalidArgument if it is not such an argument.
std::string RoleArgument(const RoleOptions& options);
absl::StatusOr<RoleOptions> ParseRoleArgument(std::string_view argument);

// What every worker process does once it is connected: all rounds, and then
// the report into options.dir.
absl::Status RunWorker(const RoleOptions& options, WorkerEnd* end);

}  // namespace syncnorm::bench
