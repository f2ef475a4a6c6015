// A Round gathers one contribution from every member of a group, for one layer
// and one direction at one step, and folds them into one result that all of
// them receive byte for byte.
//
//   kOpen ---- the last missing member contributes, ---> kComplete
//     |        or is excused
//     |
//     +------- members differ, a member is gone, ------> kFailed
//              the deadline passes, a limit is hit
//
// Its members are those of the epoch it was opened in.  One that is excused before it
// contributed is not waited for; what it had contributed counts.
//
// Callers may rely on:
//   * Idempotence.  A contribution that comes again, byte for byte, is counted
//     once (told by a 64-bit hash, which is kept with the round).
//   * Order independence.  See aggregator.h; round_test.cc tries every order.
//   * Small ends.  A round that ended holds its answer and the hashes, no values.
//   * No hidden time.  A Round reads no clock.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "proto/wire.h"
#include "server/aggregator.h"
#include "server/fingerprint.h"
#include "server/lateness.h"
#include "server/output.h"

namespace syncnorm::server {

class Round {
 public:
  enum class State : uint8_t { kOpen, kComplete, kFailed };
  enum class Added : uint8_t {
    kWaiting,  // counted; others are missing
    kLast,     // counted, and it was the last: Total() is there
    kRepeat,   // the same came before: not counted again
    // Not counted, and the round cannot go on:
    kChanged,   // another one came from this rank before
    kMismatch,  // differs from the first in its fingerprint
    kOverflow,  // the sum of the counts does not fit 64 bits
  };

  // Open, with the key and the fingerprint of `first`, which is not added yet, and the epoch that
  // the group is in.  expected[rank]: is a member.
  Round(const FoldOrder& order, const std::vector<bool>& expected, const wire::Contribution& first,
        uint64_t epoch, absl::Time opened);
  // Ended: known from an answer that a member brought along.
  Round(const FoldOrder& order, RoundKey key, State ended, Bytes answer);

  // May take the values out of `contribution`.  kOpen only; `rank` is expected.
  Added Add(uint32_t rank, wire::Contribution* contribution);
  // As Add, but the values are left out of the fold, and the count out of the sum.
  Added AddWithoutValues(uint32_t rank, const wire::Contribution& contribution);
  // `rank` is not waited for any more.  Whether that was the last that was missing.
  bool Excuse(uint32_t rank);
  // When each contribution that was added came, in order: kept by the caller's word, in memory
  // that goes from round to round.
  std::vector<Arrival>& arrivals() { return arrivals_; }
  // The fold, unrounded, once nobody is missing; zeros if no values came.  Once.
  Moments Total();
  // Whether `rank` contributed exactly this before.  Of a round that a member brought along only
  // its key is known.
  bool Repeats(uint32_t rank, const wire::Contribution& contribution) const;
  // "digest 1a2b, first was 3c4d", or the fields that differ, for the text of an error.
  std::string Compare(uint32_t rank, const wire::Contribution& contribution) const;

  // Ends the round: frees its values and keeps what to answer.
  void Complete(Bytes answer) { End(State::kComplete, std::move(answer)); }
  void Fail(Bytes answer) { End(State::kFailed, std::move(answer)); }

  State state() const { return state_; }
  bool open() const { return state_ == State::kOpen; }
  const RoundKey& key() const { return key_; }
  const Fingerprint& fingerprint() const { return fingerprint_; }
  absl::Time opened() const { return opened_; }
  bool expects(uint32_t rank) const { return expected_[rank]; }
  bool has(uint32_t rank) const { return contributed_[rank]; }
  std::vector<uint32_t> contributed() const;
  std::vector<uint32_t> missing() const;           // expected, and has not contributed
  const Bytes& answer() const { return answer_; }  // once ended
  // Of the values held; 0 once ended.
  uint64_t open_bytes() const { return aggregator_.bytes(); }
  // Of what is kept once ended.
  uint64_t kept_bytes() const;

 private:
  // Why it cannot be added; or kWaiting.
  Added Check(uint32_t rank, const wire::Contribution& contribution) const;
  Added Count(uint32_t rank, const wire::Contribution& contribution);
  void End(State state, Bytes answer);

  State state_ = State::kOpen;
  RoundKey key_;
  Fingerprint fingerprint_;
  absl::Time opened_;
  uint64_t count_ = 0;  // sum of the counts so far
  uint32_t missing_ = 0;
  bool restored_ = false;
  std::vector<bool> expected_;     // by rank
  std::vector<bool> contributed_;  // by rank
  std::vector<uint64_t> digests_;  // by rank; of those that contributed
  std::vector<Arrival> arrivals_;
  Aggregator aggregator_;
  Bytes answer_;
};

}  // namespace syncnorm::server
