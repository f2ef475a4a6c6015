// Timeline: the last minutes of a group, in bins of some seconds: how many
// rounds completed, how long they took, how late each rank was.  It is made of
// differences of the counters that the group keeps anyway, so that no round pays for it.
//
// Callers may rely on:
//   * Bounds.  kBins bins of kBin or longer; of each rank below kRanks 12 bytes a bin.
//   * Any times between samples: a bin says how long it was.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "server/lateness.h"
#include "server/round_counters.h"

namespace syncnorm::server {

class Timeline {
 public:
  // A minute after its start a late rank has 12 columns to be seen in.
  static constexpr absl::Duration kBin = absl::Seconds(5);
  // Six minutes.
  static constexpr size_t kBins = 72;
  // 72 x 256 x 12 bytes are 220 KB; what all members of a coordinator have together is bounded by
  // its streams, 4,096 x 72 x 12 = 3.5 MB.
  static constexpr uint32_t kRanks = 256;
  // What "recent" is: bins, and what has come since the last.
  static constexpr size_t kRecentBins = 12;

  struct Rank {
    uint32_t rounds = 0;
    uint32_t last = 0;
    float late_s = 0;  // sum
  };
  struct Bin {
    absl::Time ended;
    absl::Duration length;
    RoundHistogram durations;
    std::vector<Rank> ranks;  // of those below kRanks that there were
  };

  // `formed`: when the first bin begins.
  explicit Timeline(absl::Time formed) : sampled_(formed) {}

  // Ends a bin, if kBin has passed since the last.
  void Sample(absl::Time now, const RoundHistogram& durations, const Lateness& lateness);
  const std::deque<Bin>& bins() const { return bins_; }  // the oldest first
  // The last kRecentBins bins and what has come since, as one bin.
  Bin Recent(absl::Time now, const RoundHistogram& durations, const Lateness& lateness) const;

 private:
  struct Seen {
    uint64_t rounds = 0;
    uint64_t last = 0;
    absl::Duration late;
  };

  // What came since the last sample.
  Bin Since(absl::Time now, const RoundHistogram& durations, const Lateness& lateness) const;

  absl::Time sampled_;
  RoundHistogram durations_;  // as of then
  std::vector<Seen> seen_;    // by rank, as of then
  std::deque<Bin> bins_;
};

}  // namespace syncnorm::server
