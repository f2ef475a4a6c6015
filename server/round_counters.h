// RoundCounters: what rounds there were, and how long they took, as sums that only grow.
//
// Thread-safety: plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "server/histogram.h"

namespace syncnorm::server {

// 50 us is a round trip on one machine with nobody late, 10 s a hang in the making; three a decade
// in between, so that a quantile is known within a factor of 2.5.
inline constexpr std::array<int64_t, 17> kRoundBoundsNs = {
    50'000,      100'000,       200'000,       500'000,       1'000'000,     2'000'000,
    5'000'000,   10'000'000,    20'000'000,    50'000'000,    100'000'000,   200'000'000,
    500'000'000, 1'000'000'000, 2'000'000'000, 5'000'000'000, 10'000'000'000};
using RoundHistogram = Histogram<kRoundBoundsNs>;

struct RoundCounters {
  // As many as absl::StatusCode has values.
  static constexpr size_t kCodes = 17;

  uint64_t contributions = 0;
  uint64_t repeats = 0;
  uint64_t completed = 0;
  uint64_t failed = 0;
  std::array<uint64_t, kCodes> failed_by = {};  // by the failure's absl::StatusCode
  uint64_t not_finite = 0;                      // contributions
  uint64_t stragglers = 0;                      // rounds that were warned of
  RoundHistogram durations;                     // of complete rounds, first contribution to result

  void Merge(const RoundCounters& other);
};

}  // namespace syncnorm::server
