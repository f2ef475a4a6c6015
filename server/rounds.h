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
//   * Repeats.  The same again gets the same answer again.  Something else again is an error for
//     all: it fails an open round, and after a result, which others have, it ends the epoch.
//   * Age.  A round older than the kept ones is kFailedPrecondition,
//     "round 5 < oldest kept 9", for the sender alone.
//   * Settling.  Members tell up to where they have their answers; a result tells
//     up to where all have.  Rounds that are not settled are kept longer, since a worker whose
//     connection broke asks for them again.
//   * Members.  A round waits for those that take part when it opens.  Excuse() takes one out of
//     the open rounds.
//   * Values that are not finite.  By the group's policy the round fails with the
//     first such value's place (kFail), or that contribution is left out (kDrop), or it is folded
//     like all others (kPropagate): for every member alike.
//   * Bounds.  Open rounds, their bytes, kept rounds and their bytes are limited
//     (limits.h).  A round that would exceed one fails, as a whole,
//     with kResourceExhausted.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/failure.h>

#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/aggregator.h"
#include "server/drift.h"
#include "server/flight_recorder.h"
#include "server/history.h"
#include "server/lateness.h"
#include "server/limits.h"
#include "server/membership.h"
#include "server/output.h"
#include "server/round.h"
#include "server/round_counters.h"

namespace syncnorm::server {

// The same bytes for each of the ranks.
struct Answer {
  uint64_t round = 0;
  std::vector<uint32_t> ranks;
  Bytes bytes;
};

// Why no round of the epoch can complete any more.
struct EndOfEpoch {
  absl::StatusCode code;
  std::vector<uint32_t> ranks;  // at fault
  std::string what;
};

// An answer that a member brought along when it resumed.
struct KeptAnswer {
  RoundKey key;
  bool failed = false;
  Bytes bytes;
};

class Rounds {
 public:
  // All outlive the rounds.  `members` are established.
  Rounds(const Membership& members, const Limits& limits, wire::Codec* codec);
  // The same, of members that are at different places: answered[rank] is the last round that the
  // rank needs no answer to.  `answers` are those of the rounds after the smallest of these, up to
  // the largest.
  Rounds(const Membership& members, const Limits& limits, wire::Codec* codec,
         const std::vector<uint64_t>& answered, std::vector<KeptAnswer> answers);
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
  // `rank` takes part no more: no open round waits for it.  Appends the answers of those that it
  // was the last to be waited for.
  void Excuse(absl::Time now, uint32_t rank, std::vector<Answer>* answers);
  // `ranks` take part from the next round on, where the members' hosts may be others.
  void Admit(const std::vector<uint32_t>& ranks);
  // Whether a boundary round completed since the last call.
  bool TakeBoundary() { return std::exchange(boundary_, false); }

  // When Expire or Warn will have something to do; InfiniteFuture without an open round.
  absl::Time NextDeadline() const;
  // Whether `rank` may contribute to that round: it has ended, or waits or waited for it, or will.
  bool Expects(uint32_t rank, uint64_t number) const;
  // Whether an open round lacks `rank`.
  bool Waits(uint32_t rank) const;
  // "its last was round 41 layer conv1.bn (forward, step 17)", as far as still known.
  std::string LastOf(uint32_t rank) const;

  // The last round that `rank` contributed to, or needs no part in.
  uint64_t last(uint32_t rank) const { return last_[rank]; }
  // Number of the next round to open.
  uint64_t next() const { return first_ + rounds_.size(); }
  uint64_t open() const { return open_; }
  uint64_t open_bytes() const { return open_bytes_; }
  uint64_t kept() const { return rounds_.size() - open_; }
  uint64_t kept_bytes() const { return kept_bytes_; }
  const RoundCounters& counters() const { return counters_; }
  // The failures, and the contributions that were left out, since the last call, for the log.
  std::vector<Failure> TakeFailures() { return std::move(failures_); }
  // What Warn remarked, and other things to know about waits, since the last call.
  std::vector<Note> TakeRemarks() { return std::move(remarks_); }

  const Lateness& lateness() const { return lateness_; }
  const Drift& drift() const { return drift_; }
  const FlightRecorder& recorder() const { return recorder_; }
  // The oldest `most` that are open.
  std::vector<const Round*> OpenRounds(size_t most) const;

 private:
  Round& At(uint64_t number) { return rounds_[number - first_]; }
  const Round& At(uint64_t number) const { return rounds_[number - first_]; }

  EndOfEpoch Desync(uint32_t rank, uint64_t number) const;
  // What is wrong with a contribution that differs from the one before, as a text.
  std::string Changed(const Round& round, uint32_t rank,
                      const wire::Contribution& contribution) const;
  // Adds it to the open round and ends the round if that ends it.
  void Add(absl::Time now, Round* round, uint32_t rank, wire::Contribution* contribution,
           std::vector<Answer>* answers);
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
  void Remark(std::string text, const RoundKey& key, std::vector<uint32_t> ranks);
  // Of a round that has just ended: with `failure`, or complete.
  void Record(absl::Time now, const Failure* failure, Round* round);
  // Forgets ended rounds beyond the limits.
  void Trim();
  // Every member has its answers up to this round.
  uint64_t Settled() const;
  Bytes Encode(const Failure& failure) const;

  const Membership& members_;
  const Limits limits_;
  wire::Codec* const codec_;
  // The last is in force; open rounds may refer to earlier ones.
  std::list<FoldOrder> orders_;
  bool boundary_ = false;
  uint64_t first_ = 1;        // number of rounds_.front()
  std::deque<Round> rounds_;  // kept and open
  uint64_t oldest_open_ = 1;  // number of the first open round, or of the next to open
  uint64_t open_ = 0;
  uint64_t open_bytes_ = 0;
  uint64_t kept_bytes_ = 0;
  std::vector<uint64_t> last_;      // by rank: the last round it contributed to
  std::vector<uint64_t> answered_;  // by rank: it needs no answer to rounds up to this one
  History history_;                 // of complete rounds
  wire::Result result_;             // reused
  RoundCounters counters_;
  std::vector<Failure> failures_;

  Lateness lateness_;
  Drift drift_;
  FlightRecorder recorder_;
  // Number of the first open round that was not remarked on, or of the next.
  uint64_t unwarned_ = 1;
  std::vector<std::vector<Arrival>> spare_;  // memory for arrivals; as many as were open at once
  std::vector<Note> remarks_;
};

}  // namespace syncnorm::server
