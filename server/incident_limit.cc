#include "server/incident_limit.h"

namespace syncnorm::server {

bool IncidentLimit::Allow(absl::Time now, const std::string& group) {
  const auto it = last_.find(group);
  if (it != last_.end()) {
    if (now - it->second < kBetween) return false;
    it->second = now;
    return true;
  }
  if (last_.size() >= kNames) {
    absl::erase_if(last_, [&](const auto& entry) { return now - entry.second >= kBetween; });
    if (last_.size() >= kNames) return false;
  }
  last_.emplace(group, now);
  return true;
}

}  // namespace syncnorm::server
