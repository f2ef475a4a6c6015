#include "server/timeline.h"

#include <algorithm>
#include <utility>

namespace syncnorm::server {

Timeline::Bin Timeline::Since(absl::Time now, const RoundHistogram& durations,
                              const Lateness& lateness) const {
  Bin bin;
  bin.ended = now;
  bin.length = now - sampled_;
  bin.durations = durations.Since(durations_);
  bin.ranks.resize(std::min(lateness.ranks(), kRanks));
  for (uint32_t rank = 0; rank < bin.ranks.size(); ++rank) {
    const Lateness::Rank& is = lateness.rank(rank);
    const Seen was = rank < seen_.size() ? seen_[rank] : Seen();
    bin.ranks[rank] = {static_cast<uint32_t>(is.late.count() - was.rounds),
                       static_cast<uint32_t>(is.last - was.last),
                       static_cast<float>(absl::ToDoubleSeconds(is.late.sum() - was.late))};
  }
  return bin;
}

void Timeline::Sample(absl::Time now, const RoundHistogram& durations, const Lateness& lateness) {
  if (now - sampled_ < kBin) return;
  bins_.push_back(Since(now, durations, lateness));
  if (bins_.size() > kBins) bins_.pop_front();
  sampled_ = now;
  durations_ = durations;
  seen_.resize(bins_.back().ranks.size());
  for (uint32_t rank = 0; rank < seen_.size(); ++rank) {
    const Lateness::Rank& is = lateness.rank(rank);
    seen_[rank] = {is.late.count(), is.last, is.late.sum()};
  }
}

Timeline::Bin Timeline::Recent(absl::Time now, const RoundHistogram& durations,
                               const Lateness& lateness) const {
  Bin recent = Since(now, durations, lateness);
  const size_t bins = std::min(kRecentBins, bins_.size());
  for (auto bin = bins_.end() - static_cast<std::ptrdiff_t>(bins); bin != bins_.end(); ++bin) {
    recent.length += bin->length;
    recent.durations.Merge(bin->durations);
    for (uint32_t rank = 0; rank < bin->ranks.size(); ++rank) {
      recent.ranks[rank].rounds += bin->ranks[rank].rounds;
      recent.ranks[rank].last += bin->ranks[rank].last;
      recent.ranks[rank].late_s += bin->ranks[rank].late_s;
    }
  }
  return recent;
}

}  // namespace syncnorm::server
