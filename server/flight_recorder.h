// FlightRecorder: the last rounds of a group, and how they ended.  A ring of a
// fixed number of entries that are written again and again, so that
// what led to a failure is there when somebody asks for it.
//
// Bounded: an entry holds at most kTextBytes of a failure's text and
// kListedRanks missing ranks (and their number).  At 2,048 entries, layers
// named in 40 bytes and no failures that is 0.4 MiB a group, at most 1.9 MiB with names of
// 256 bytes.  The ring grows with the rounds until it is full; from then on nothing is
// allocated, except for a text or a name longer than the entry ever held.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/round_key.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/lateness.h"

namespace syncnorm::server {

class FlightRecorder {
 public:
  // A failure's text names group, round, layer, and the first ranks at fault with their hosts
  // within that; the log has the whole of it.
  static constexpr size_t kTextBytes = 512;
  // Of the ranks that a round lacked.
  static constexpr size_t kListedRanks = 16;

  // How a round ended: kOk, or the failure's code and text.
  struct Outcome {
    absl::StatusCode code = absl::StatusCode::kOk;
    absl::string_view text;
    uint64_t bytes = 0;  // of the answer that each member was sent
  };

  struct Entry {
    RoundKey key;
    absl::Time opened;
    absl::Time ended;
    uint32_t arrivals = 0;
    uint32_t first_rank = 0;  // valid with at least one arrival, like the others
    uint32_t last_rank = 0;
    absl::Duration wait;            // from the first arrival to the last
    absl::StatusCode code = {};     // kOk: complete
    std::string text;               // of the failure, cut to kTextBytes
    std::vector<uint32_t> missing;  // the first kListedRanks
    uint32_t missing_count = 0;
    uint64_t bytes = 0;
  };

  // Keeps the last `rounds` > 0.
  explicit FlightRecorder(uint32_t rounds) : max_(rounds) {}

  // `arrivals` in their order, `missing` in increasing order.
  void Ended(const RoundKey& key, absl::Time opened, absl::Time ended,
             absl::Span<const Arrival> arrivals, absl::Span<const uint32_t> missing,
             const Outcome& outcome);

  size_t size() const { return entries_.size(); }
  // 0: the latest; below size().
  const Entry& At(size_t age) const {
    return entries_[(next_ + entries_.size() - 1 - age) % entries_.size()];
  }

 private:
  const uint32_t max_;
  std::vector<Entry> entries_;
  size_t next_ = 0;  // where the next goes, once full
};

}  // namespace syncnorm::server
