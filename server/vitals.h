// Vitals: all that is to be watched of a coordinator, at one moment, as plain
// values: what /metrics, the status page and syncnormctl show is made of one
// of these, so that they agree.
//
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/coordinator.h"
#include "server/report.h"
#include "server/security.h"

namespace syncnorm::server {

struct Status {
  uint64_t coordinator_id = 0;
  Snapshot snapshot;
  uint64_t dumps_written = 0;
  uint64_t dumps_failed = 0;
};

struct Vitals {
  Status status;
  Report report;                          // without ended rounds
  std::vector<Report::Failure> failures;  // the latest first
  SecurityState security;
  absl::Duration certificate_left;  // until its end, if there is one
  uint64_t log_dropped = 0;         // lines that nobody took
  std::string version;
  std::string grpc_version;
  absl::Duration up;  // since the start
};

}  // namespace syncnorm::server
