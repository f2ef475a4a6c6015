// Where the processes of a run live: all on the loopback interface of this
// machine, or each on a host of its own (a network namespace) with a delay
// between them.  Host 0 is the coordinator's, host r+1 is that of rank r.
//
// A Place owns its network: the destructor takes it down.  Bringing it up and
// taking it down are never interrupted, so that Ctrl-C leaves no half a network.
//
// Thread-safety: one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace syncnorm::bench {

class Place {
 public:
  virtual ~Place() = default;

  virtual std::string name() const = 0;  // "loopback", "netlab": as in the tables and in JSON
  virtual std::string AddressOf(int host) const = 0;  // IPv4, dotted

  // The command that runs `command` on `host`.  It keeps its process id.
  virtual std::vector<std::string> On(int host, std::vector<std::string> command) const = 0;
};

std::unique_ptr<Place> MakeLoopback();

// A network of `hosts` hosts, made by `script`, whose verbs are
//   script up HOSTS --delay MICROSECONDS_ONE_WAY;  script exec HOST COMMAND...;  script down
// and whose host h has the address 10.77.0.(h+1).  Logs go to `log_dir`.
//   kFailedPrecondition   not root, no such script, or another network is up:
//                         there is nothing to measure on here;
//   kInternal             the script failed.
absl::StatusOr<std::unique_ptr<Place>> MakeNetlab(const std::string& script, int hosts,
                                                  absl::Duration one_way_delay,
                                                  const std::string& log_dir);

}  // namespace syncnorm::bench
