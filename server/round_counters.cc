#include "server/round_counters.h"

namespace syncnorm::server {

void RoundCounters::Merge(const RoundCounters& other) {
  contributions += other.contributions;
  repeats += other.repeats;
  completed += other.completed;
  failed += other.failed;
  for (size_t code = 0; code < kCodes; ++code) failed_by[code] += other.failed_by[code];
  not_finite += other.not_finite;
  stragglers += other.stragglers;
  durations.Merge(other.durations);
}

}  // namespace syncnorm::server
