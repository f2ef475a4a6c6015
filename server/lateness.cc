#include "server/lateness.h"

#include <algorithm>

namespace syncnorm::server {

bool Lateness::Add(const std::string& layer, Direction direction,
                   absl::Span<const Arrival> arrivals) {
  if (arrivals.size() < 2) return false;
  const Arrival& first = arrivals.front();
  const Arrival& last = arrivals.back();
  for (const Arrival& arrival : arrivals) {
    const absl::Duration late = arrival.at - first.at;
    Rank& rank = Make(arrival.rank);
    rank.late.Add(late);
    rank.max = std::max(rank.max, late);
  }
  ++ranks_[last.rank].last;

  Layer* entry = Find(layer, direction);
  const bool first_other = entry == nullptr && others_.rounds == 0;
  if (entry == nullptr) entry = &others_;
  const absl::Duration wait = last.at - first.at;
  ++entry->rounds;
  entry->wait += wait;
  entry->max = std::max(entry->max, wait);
  if (entry->last.size() <= last.rank) entry->last.resize(last.rank + 1);
  ++entry->last[last.rank];
  return first_other;
}

void Lateness::Missed(absl::Span<const uint32_t> ranks) {
  for (const uint32_t rank : ranks) ++Make(rank).missed;
}

const Lateness::Rank& Lateness::rank(uint32_t rank) const {
  static const Rank* const none = new Rank;
  return rank < ranks_.size() ? ranks_[rank] : *none;
}

Lateness::Layer* Lateness::Find(const std::string& layer, Direction direction) {
  auto& index = index_[static_cast<size_t>(direction) - 1];
  const auto it = index.find(layer);
  if (it != index.end()) return &layers_[it->second];
  if (layers_.size() >= max_layers_) return nullptr;
  index.emplace(layer, static_cast<uint32_t>(layers_.size()));
  Layer& made = layers_.emplace_back();
  made.name = layer;
  made.direction = direction;
  return &made;
}

Lateness::Rank& Lateness::Make(uint32_t rank) {
  if (ranks_.size() <= rank) ranks_.resize(rank + 1);
  return ranks_[rank];
}

}  // namespace syncnorm::server
