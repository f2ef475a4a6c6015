// Rounds: the window of a group's rounds in one epoch: those that are open, and
// the latest that ended, kept to answer repeats and late members.
//
//      dropped  |  kept: ended      open (any number)  |  next
//    1 2 ... 8  |  9 10 11 ... 40   41 42 43           |  44
//
// Callers may rely on:
//   * One order for all.  A member's rounds come as 1, 2, 3, ...; one that jumps
//     ahead has lost a contribution for good, and ends the epoch ("desync").
//   * Mismatch.  Contributions that differ in layer, direction, step, kind,
//     precision, dtype or shape end their round at once: those that contributed
//     get the failure now, the others when they contribute.  Later rounds go on.
//   * Repeats.  The same again gets the same answer again.  Something else again
//     fails an open round for all; of a complete round, whose result is out,
//     it fails the sender alone.
//   * Age.  A round older than the kept ones is kFailedPrecondition,
//     "round 5 < oldest kept 9", for the sender alone.
//   * Bounds.  Open rounds, their bytes, kept rounds and their bytes are limited
//     (limits.h).  A round that would exceed one fails, as a whole,
//     with kResourceExhausted.
//
// Non-finite values are folded like all others: they reach every member alike.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/failure.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/aggregator.h"
#include "server/flight_recorder.h"
#include "server/history.h"
#include "server/lateness.h"
#include "server/limits.h"
#include "server/membership.h"
#include "server/output.h"
#include "server/round.h"

namespace syncnorm::server {

// The same bytes for each of the ranks.
struct Answer {
  std::vector<uint32_t> ranks;
  Bytes bytes;
};

// Why no round of the epoch can complete any more.
struct EndOfEpoch {
  absl::StatusCode code;
  std::vector<uint32_t> ranks;  // at fault
  std::string what;
};

class Rounds {
 public:
  struct Counters {
    uint64_t contributions = 0;
    uint64_t repeats = 0;
    uint64_t completed = 0;
    uint64_t failed = 0;
    uint64_t stragglers = 0;  // rounds that were warned of
  };

  // All outlive the rounds.  `members` are established.
  Rounds(const Membership& members, const Limits& limits, wire::Codec* codec);
  Rounds(const Rounds&) = delete;
  Rounds& operator=(const Rounds&) = delete;

  // May take the values out of `contribution`, whose epoch is this one.  Appends the answers that
  // it causes; none while others are missing.  Returns what ends the epoch, if it does: then
  // nothing was appended, and the contribution is not answered.
  std::optional<EndOfEpoch> Contribute(absl::Time now, uint32_t rank,
                                       wire::Contribution* contribution,
                                       std::vector<Answer>* answers);
  // Fails the open rounds whose deadline has passed.
  void Expire(absl::Time now, std::vector<Answer>* answers);
  // Remarks on the open rounds that have waited for long, once on each.
  void Warn(absl::Time now);
  // Fails all open rounds; `what` follows the round's name in the texts.
  void FailOpen(absl::Time now, absl::StatusCode code, const std::vector<uint32_t>& ranks,
                const std::string& what, std::vector<Answer>* answers);
  // From now on a round that is not open yet fails with kUnavailable.
  void Drain() { draining_ = true; }

  // When Expire or Warn will have something to do; InfiniteFuture without an open round.
  absl::Time NextDeadline() const;
  // Whether an open round lacks `rank`.
  bool Waits(uint32_t rank) const;
  // "its last was round 41 layer conv1.bn (forward, step 17)", as far as still known.
  std::string LastOf(uint32_t rank) const;

  uint64_t open() const { return open_; }
  uint64_t open_bytes() const { return open_bytes_; }
  uint64_t kept() const { return rounds_.size() - open_; }
  uint64_t kept_bytes() const { return kept_bytes_; }
  const Counters& counters() const { return counters_; }
  // Texts of the failures since the last call, for the log.
  std::vector<std::string> TakeFailures() { return std::move(failures_); }
  // What Warn remarked, and other things to know about waits, since the last call.
  std::vector<std::string> TakeRemarks() { return std::move(remarks_); }

  const Lateness& lateness() const { return lateness_; }
  const FlightRecorder& recorder() const { return recorder_; }
  // The oldest `most` that are open.
  std::vector<const Round*> OpenRounds(size_t most) const;

 private:
  uint64_t next() const { return first_ + rounds_.size(); }
  Round& At(uint64_t number) { return rounds_[number - first_]; }
  const Round& At(uint64_t number) const { return rounds_[number - first_]; }

  EndOfEpoch Desync(uint32_t rank, uint64_t number) const;
  // Why this contribution cannot be taken, by the limits; or none.
  std::optional<Failure> Refuse(uint32_t rank, const Round& round,
                                const wire::Contribution& contribution, bool opens) const;
  Failure Mismatch(uint32_t rank, const Round& round, const wire::Contribution& sent) const;
  // `group "world" epoch 3 round 40 layer bn1 (forward, step 17): ` and the text.
  Failure Fail(absl::StatusCode code, const Round& round, std::vector<uint32_t> ranks,
               const std::string& what) const;

  // "rank 3 (host h3, pid 77) last heard 2.0 s ago" for each that is missing, cut.
  std::string Missing(absl::Time now, const Round& round) const;

  void Complete(absl::Time now, Round* round, std::vector<Answer>* answers);
  // Answers those that contributed and, if given, `sender`.
  void End(absl::Time now, Round* round, const Failure& failure, std::optional<uint32_t> sender,
           std::vector<Answer>* answers);
  void Ended(const Round& round);
  // Of a round that has just ended: with `failure`, or complete.
  void Record(absl::Time now, const Failure* failure, Round* round);
  Bytes Encode(const Failure& failure) const;

  const Membership& members_;
  const Limits limits_;
  wire::Codec* const codec_;
  const FoldOrder order_;
  bool draining_ = false;
  uint64_t first_ = 1;        // number of rounds_.front()
  std::deque<Round> rounds_;  // kept and open
  uint64_t oldest_open_ = 1;  // number of the first open round, or of the next to open
  uint64_t open_ = 0;
  uint64_t open_bytes_ = 0;
  uint64_t kept_bytes_ = 0;
  std::vector<uint64_t> last_;  // by rank: the last round it contributed to
  History history_;             // of complete rounds
  wire::Result result_;         // reused
  Counters counters_;
  std::vector<std::string> failures_;

  Lateness lateness_;
  FlightRecorder recorder_;
  uint64_t unwarned_ =
      1;  // number of the first open round that was not remarked on, or of the next
  std::vector<std::vector<Arrival>> spare_;  // memory for arrivals; as many as were open at once
  std::vector<std::string> remarks_;
};

}  // namespace syncnorm::server
