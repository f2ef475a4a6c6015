// The canonical fold: how the contributions of a group become one result.
//
// Addition of floats is not associative, so the order is a rule, fixed by the
// group's hosts and ranks and never by arrival:
//
//   1. The members of each host are folded in rank order, starting from the
//      host's lowest rank: its partial.
//   2. The partials are folded in the order of the hosts' lowest ranks,
//      starting from the first.
//
// A fold starts from the first part itself, not from zeros (so a sum of -0.0
// stays -0.0).  Partials are float64 and are never rounded; only the result of
// step 2 is rounded to the round's precision, by the caller.
//
// So a relay that folds the members of one host, by step 1, and sends its
// partial unrounded gives the same bytes as its members would have given
// directly: step 2 sees the same partials in the same order.
//
// A rank that takes no part is skipped: the others are folded as if the group were
// made of them alone.  So a host moves back in the order when its lowest rank is skipped; that is
// known before it or any host behind it is folded.
//
// Memory.  Whatever can be folded is folded at once: a contribution is kept only
// while an earlier one of its host is missing, a partial only while one of an
// earlier host is.  Arrival in order holds one partial a host.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/moments.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace syncnorm::server {

// Where each rank stands in the fold.  Made once per epoch.
class FoldOrder {
 public:
  struct Place {
    uint32_t host = 0;   // in the order of lowest ranks
    uint32_t index = 0;  // within the host, in rank order
  };

  // hosts[rank]; an empty name is a name like any other.
  explicit FoldOrder(absl::Span<const std::string> hosts);

  uint32_t members() const { return static_cast<uint32_t>(places_.size()); }
  uint32_t hosts() const { return static_cast<uint32_t>(ranks_.size()); }
  Place place(uint32_t rank) const { return places_[rank]; }
  uint32_t members_of(uint32_t host) const { return static_cast<uint32_t>(ranks_[host].size()); }
  uint32_t rank(uint32_t host, uint32_t index) const { return ranks_[host][index]; }

 private:
  std::vector<Place> places_;                 // by rank
  std::vector<std::vector<uint32_t>> ranks_;  // by host, increasing
};

class Aggregator {
 public:
  // `order` outlives the aggregator.
  explicit Aggregator(const FoldOrder& order) : order_(&order), hosts_(order.hosts()) {}

  // Adds the moments of a rank that was not added before; all have the same shape and kind, and
  // their counts sum to less than 2^64 (a bug otherwise: CHECK).  Takes the values out of `moments`
  // where they cannot be folded at once.
  void Add(uint32_t rank, Moments* moments);
  // The rank, which was not added, takes no part.
  void Skip(uint32_t rank);

  bool complete() const { return folded_hosts_ == order_->hosts(); }
  // The fold, unrounded; without values if all ranks were skipped.  Once, when complete.
  Moments Take();
  // Frees everything; nothing but bytes() may be called after.
  void Clear();
  // Of the values held.
  uint64_t bytes() const { return bytes_; }

 private:
  struct Host {
    uint32_t folded = 0;  // members in `partial`, a prefix in rank order
    Moments partial;      // without values: of none
    // By index; empty until a member came early.  Moments without values: it is skipped.
    std::vector<std::optional<Moments>> waiting;
    std::vector<bool> skipped;  // by index; empty: none
    uint32_t lowest = 0;        // index of the first member that was not skipped
  };

  void Place(uint32_t rank, Moments* moments);
  void FoldMember(Moments* moments, Host* host);
  // The host's lowest members were skipped: gives it its place among those that are not folded yet.
  void MoveBack(uint32_t host);
  // Of the first member that was not skipped; beyond all ranks without one.
  uint32_t LowestRank(uint32_t host) const;
  uint32_t HostAt(uint32_t position) const {
    return sequence_.empty() ? position : sequence_[position];
  }
  void FoldHosts();

  const FoldOrder* order_;
  std::vector<Host> hosts_;
  std::vector<uint32_t> sequence_;  // the hosts as they are folded; empty: by number
  uint32_t folded_hosts_ = 0;       // hosts in `total_`, a prefix of the sequence
  Moments total_;
  uint64_t bytes_ = 0;
};

}  // namespace syncnorm::server
