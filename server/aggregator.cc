#include "server/aggregator.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "kernels/check.h"

namespace syncnorm::server {
namespace {

uint64_t BytesOf(const Moments& moments) { return moments.values.size() * sizeof(double); }

}  // namespace

FoldOrder::FoldOrder(absl::Span<const std::string> hosts) {
  absl::flat_hash_map<std::string, uint32_t> index;
  places_.reserve(hosts.size());
  for (const std::string& name : hosts) {
    // In rank order, so a new host's number follows those with lower ranks.
    const auto [it, added] = index.try_emplace(name, static_cast<uint32_t>(ranks_.size()));
    if (added) ranks_.emplace_back();
    const uint32_t host = it->second;
    places_.push_back(Place{host, members_of(host)});
    ranks_[host].push_back(static_cast<uint32_t>(places_.size()) - 1);
  }
}

void Aggregator::Add(uint32_t rank, Moments* moments) {
  SYNCNORM_CHECK(!moments->values.empty());
  Place(rank, moments);
}

void Aggregator::Skip(uint32_t rank) {
  const FoldOrder::Place place = order_->place(rank);
  Host& host = hosts_[place.host];
  if (host.skipped.empty()) host.skipped.resize(order_->members_of(place.host));
  host.skipped[place.index] = true;
  if (place.index == host.lowest) {
    while (host.lowest < host.skipped.size() && host.skipped[host.lowest]) ++host.lowest;
    MoveBack(place.host);
  }
  Moments none;
  Place(rank, &none);
}

uint32_t Aggregator::LowestRank(uint32_t host) const {
  const uint32_t lowest = hosts_[host].lowest;
  return lowest < order_->members_of(host) ? order_->rank(host, lowest) : order_->members();
}

void Aggregator::MoveBack(uint32_t host) {
  if (sequence_.empty()) {
    sequence_.resize(hosts_.size());
    std::iota(sequence_.begin(), sequence_.end(), 0);
  }
  // Its lowest rank was missing until now, so that it is not folded.
  auto at = std::find(sequence_.begin() + folded_hosts_, sequence_.end(), host);
  SYNCNORM_CHECK(at != sequence_.end());
  const uint32_t lowest = LowestRank(host);
  for (; at + 1 != sequence_.end() && LowestRank(at[1]) < lowest; ++at) std::swap(at[0], at[1]);
}

void Aggregator::Place(uint32_t rank, Moments* moments) {
  const FoldOrder::Place place = order_->place(rank);
  Host& host = hosts_[place.host];
  SYNCNORM_CHECK(place.index >= host.folded);
  if (place.index > host.folded) {
    if (host.waiting.empty()) host.waiting.resize(order_->members_of(place.host));
    SYNCNORM_CHECK(!host.waiting[place.index].has_value());
    bytes_ += BytesOf(*moments);
    host.waiting[place.index] = std::move(*moments);
    return;
  }
  FoldMember(moments, &host);
  while (host.folded < host.waiting.size() && host.waiting[host.folded].has_value()) {
    std::optional<Moments>& next = host.waiting[host.folded];
    const uint64_t freed = BytesOf(*next);
    FoldMember(&*next, &host);
    next.reset();
    bytes_ -= freed;
  }
  FoldHosts();
}

void Aggregator::FoldMember(Moments* moments, Host* host) {
  ++host->folded;
  if (moments->values.empty()) return;
  if (host->partial.values.empty()) {
    bytes_ += BytesOf(*moments);
    host->partial = std::move(*moments);
    return;
  }
  SYNCNORM_CHECK(Fold(*moments, &host->partial).ok());
}

void Aggregator::FoldHosts() {
  while (folded_hosts_ < hosts_.size()) {
    const uint32_t host = HostAt(folded_hosts_);
    if (hosts_[host].folded < order_->members_of(host)) break;
    ++folded_hosts_;
    Moments& partial = hosts_[host].partial;
    if (partial.values.empty()) continue;
    if (total_.values.empty()) {
      total_ = std::move(partial);
      continue;
    }
    SYNCNORM_CHECK(Fold(partial, &total_).ok());
    bytes_ -= BytesOf(partial);
    partial = Moments();
  }
}

void Aggregator::Clear() {
  hosts_ = {};
  total_ = Moments();
  bytes_ = 0;
}

Moments Aggregator::Take() {
  SYNCNORM_CHECK(complete());
  bytes_ = 0;
  return std::move(total_);
}

}  // namespace syncnorm::server
