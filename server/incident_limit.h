// IncidentLimit: how often a group's failures are reported: the first at once,
// then one in ten seconds, so that a group that fails in every round neither
// fills the disk nor keeps the coordinator from its rounds.
//
// Bounded: kNames names; more that failed within ten seconds are not reported.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstddef>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"

namespace syncnorm::server {

class IncidentLimit {
 public:
  // Longer than what one cause takes to play out, short enough for the next one.
  static constexpr absl::Duration kBetween = absl::Seconds(10);
  // As many as there are groups by default.
  static constexpr size_t kNames = 1024;

  bool Allow(absl::Time now, const std::string& group);

 private:
  absl::flat_hash_map<std::string, absl::Time> last_;
};

}  // namespace syncnorm::server
