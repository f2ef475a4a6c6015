// ProcessStats: what the kernel tells of this process, for the metrics that every
// exporter has.
//
// Thread-safety: may be called concurrently.
#pragma once

namespace syncnorm::server {

struct ProcessStats {
  double cpu_s = 0;  // user and system
  double resident_bytes = 0;
  double open_fds = 0;
  double max_fds = 0;
  double start_time_s = 0;  // since 1970
};

// What cannot be read is 0.
ProcessStats ReadProcessStats();

}  // namespace syncnorm::server
