// Lateness: who waits for whom in a group.  Of every complete round it takes
// when each rank's contribution came, and keeps
//   * per rank: how late it was (its arrival minus the round's first), as sum,
//     maximum and histogram; how often it was the last; how often a round
//     ran into its deadline without it;
//   * per layer and direction: how long its rounds waited from the first to the
//     last arrival, and how often each rank was the last.
//
// Callers may rely on:
//   * Small cost.  Add costs one hash lookup a round and some integer
//     arithmetic an arrival; it allocates only for a layer or a rank that is new.
//   * Bounds.  At most `layers` layers (a layer's two directions are two) are
//     told apart; what is beyond is counted together, as others().
//   * Any ranks.  A round's members may be any of the group's: ranks that are
//     not in `arrivals` are left as they are.
//
// The clock is the coordinator's: a worker that sends in time over a slow
// network is late here, as it is for the others that wait.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/round_key.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/histogram.h"

namespace syncnorm::server {

// When a rank's contribution to a round came.
struct Arrival {
  uint32_t rank;
  absl::Time at;
};

inline constexpr std::array<int64_t, 8> kLatenessBoundsNs = {
    50'000,          // a round trip on one machine: nobody waits
    200'000,         // a round trip in one network
    1'000'000,       // a thread that was woken late
    5'000'000,       // some time slices of the scheduler: too few cores
    20'000'000,      // a larger batch, a collection of garbage
    100'000'000,     // a data loader that fell behind, a lost packet's retransmission
    1'000'000'000,   // the default of the straggler warning
    10'000'000'000,  // a checkpoint, an evaluation; beyond, a hang in the making
};
using LatenessHistogram = Histogram<kLatenessBoundsNs>;

class Lateness {
 public:
  struct Rank {
    LatenessHistogram late;  // of the complete rounds that it took part in
    uint64_t last = 0;       // of those, the ones that it ended
    uint64_t missed = 0;     // rounds that failed at their deadline for want of it
    absl::Duration max;
  };
  struct Layer {
    std::string name;
    Direction direction = Direction::kNone;
    uint64_t rounds = 0;
    absl::Duration wait;  // sum over the rounds, first to last arrival
    absl::Duration max;
    std::vector<uint64_t> last;  // by rank, up to the highest that was the last
  };

  // Tells `layers` of them apart.
  explicit Lateness(uint32_t layers) : max_layers_(layers) {}

  // A complete round: `arrivals` in their order.  One with fewer than two is not counted: nobody
  // waited.  True when its layer is the first that is counted among the others.
  bool Add(const std::string& layer, Direction direction, absl::Span<const Arrival> arrivals);
  // A round that ran into its deadline while it waited for these.
  void Missed(absl::Span<const uint32_t> ranks);

  // Of a rank that no round has named, zeros.
  const Rank& rank(uint32_t rank) const;
  // One above the highest that a round has named.
  uint32_t ranks() const { return static_cast<uint32_t>(ranks_.size()); }
  const std::vector<Layer>& layers() const { return layers_; }  // in the order of their first round
  const Layer& others() const { return others_; }               // without a name

 private:
  // The layer's entry; null if there is no room for it.
  Layer* Find(const std::string& layer, Direction direction);
  Rank& Make(uint32_t rank);

  const uint32_t max_layers_;
  std::vector<Rank> ranks_;  // by rank
  std::vector<Layer> layers_;
  Layer others_;
  // Index in layers_, by direction (1 to 3) and name.
  std::array<absl::flat_hash_map<std::string, uint32_t>, 3> index_;
};

}  // namespace syncnorm::server
