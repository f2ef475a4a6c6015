// Drift: how far the members' own statistics are from the group's, by layer:
// what a layer would lose if it were not synchronised.  Now and then it keeps
// the contributions of a round and holds them against the result.
//
//   Wants ----> Begin ----> Keep ... ----> Measure
//                             |
//                             +----------> Abandon
//
// Per channel, of the result's mean and deviation and a member's own:
//   shift    (mean of the member - mean) / deviation         moments only
//   spread   ln(deviation of the member / deviation);  of sums of squares (PowerNorm): of the
//            quadratic means
// and of each the root mean square over the channels and the members.  A channel whose deviation
// is 0 or not finite is left out, a member's whose own is 0 out of the spread.
//
// Callers may rely on:
//   * Small cost.  One round at a time is measured, one in kBetween at most, and each layer every
//     kAgain; kChannels of it at most.  For all other rounds it is one comparison.
//   * Bounds.  `layers` layers are known; kChannels x members x 2 values are held.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/moments.h>
#include <syncnorm/round_key.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "proto/wire.h"

namespace syncnorm::server {

class Drift {
 public:
  // 300 layers are all measured within 15 s of training, at 20 copies a second.
  static constexpr absl::Duration kBetween = absl::Milliseconds(50);
  // Statistics change over minutes of training.
  static constexpr absl::Duration kAgain = absl::Seconds(10);
  // The error of a root mean square of that many is some per cent.
  static constexpr int64_t kChannels = 256;

  struct Entry {
    std::optional<double> shift;
    double spread = 0;
    uint32_t rank = 0;  // whose squares of both together are the largest
    absl::Time measured;
  };

  explicit Drift(uint32_t layers) : max_layers_(layers) {}

  // Whether the round that this contribution opens is to be measured: then Begin.
  bool Wants(absl::Time now, const wire::Contribution& first);
  // Contributions of that round follow.
  void Begin(absl::Time now, uint64_t round);
  bool Measures(uint64_t round) const { return round_ == round; }
  void Keep(uint32_t rank, const Moments& moments);
  void Measure(absl::Time now, const std::string& layer, const Moments& result);
  void Abandon() { round_ = 0; }

  // Null: none was measured.
  const Entry* Find(const std::string& layer) const;

 private:
  struct Own {
    uint32_t rank;
    double count;
    std::vector<double> values;  // the first channels of each row
  };

  const uint32_t max_layers_;
  absl::flat_hash_map<std::string, Entry> layers_;
  absl::Time next_ = absl::InfinitePast();
  uint64_t round_ = 0;    // being measured; 0: none
  std::vector<Own> own_;  // memory goes from round to round
  size_t kept_ = 0;       // of own_
};

}  // namespace syncnorm::server
