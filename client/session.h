// Session: one worker's side of the wire, without any I/O.  Told what the caller
// submits, what the coordinator says and what time it is; gives the bytes to
// send and the rounds that have ended.
//
//   kJoining ---- Joined ----> kJoined ---- Leave() ----> kLeft
//      |                          |
//      +--------------------------+--- the membership fails ---> kFailed
//
// Callers may rely on:
//   * Rounds are numbered 1, 2, 3, ... in the order of Submit.  Whoever sends
//     the bytes must keep that order.
//   * Every round that Submit accepted ends exactly once, as a Completion.
//   * A result is taken only if its epoch, round, layer, direction, step and shape are
//     those of what was submitted; anything else fails the membership.
//   * A membership that has failed stays failed: what is pending and
//     whatever is submitted later end with the same status.
//   * What the coordinator would refuse as malformed is refused here,
//     before anything is sent and before a round number is used.
//   * Deadlines.  A round that the coordinator has not answered `round_timeout` +
//     kAnswerSlack after its submission fails the membership with
//     kDeadlineExceeded, and the membership with it, since the others may have got a result.  The
//     clock of a round starts with its own submission even where earlier rounds
//     hold it up: the caller's bound would otherwise grow with the queue.  The text
//     then says what the coordinator answered last, which is why.
//   * At most kMaxPending rounds are under way.
//
// Thread-safety: thread-compatible.  Reads no clock.
#pragma once

#include <syncnorm/reducer.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/codec.h"
#include "proto/wire.h"

namespace syncnorm {

class Session {
 public:
  // Half of the 100 ms that Group allows beyond a deadline is for the coordinator's own failure
  // text to arrive first; the other half is for waking the caller.
  static constexpr absl::Duration kAnswerSlack = absl::Milliseconds(50);

  // As many as a coordinator lets open (its limits.h): a step of 1,000 layers.
  static constexpr size_t kMaxPending = 1024;

  enum class Phase : uint8_t { kJoining, kJoined, kLeft, kFailed };

  struct Completion {
    uint64_t round = 0;
    absl::StatusOr<Moments> result;
  };

  // `address` is for texts.  join.round_timeout and join.join_timeout are positive.
  Session(std::string address, wire::Join join);

  // The bytes of the Join, to be sent first.
  std::string Start();

  // Gives the round's number and, in `bytes`, what to send.
  //   kInvalidArgument     the moments or the layer's name are malformed (which, and what is
  //                        allowed);
  //   kResourceExhausted   beyond the coordinator's limits (both values), or kMaxPending;
  //   kFailedPrecondition  Leave was called;
  //   otherwise            the membership has failed: its status.
  absl::StatusOr<uint64_t> Submit(const ReduceKey& key, const Moments& moments, absl::Time now,
                                  std::string* bytes);

  // Takes in a message (and moves values out of it), the end of the stream, the
  // passing of time.  Rounds that ended are appended to `done`.
  void Receive(wire::CoordinatorMessage* message, absl::Time now, std::vector<Completion>* done);
  void Closed(const absl::Status& why, std::vector<Completion>* done);
  void Advance(absl::Time now, std::vector<Completion>* done);
  // Bytes arrived that are not a message: fails the membership.
  void Garbled(const absl::Status& why, std::vector<Completion>* done);

  // The bytes of a Leave; nothing can be submitted from then on.  Call when nothing is pending.
  std::string Leave(std::string_view reason);

  // When Advance has something to do; InfiniteFuture when nothing is pending.
  absl::Time deadline() const;

  Phase phase() const { return phase_; }
  size_t pending() const { return unanswered_; }
  // Why the membership failed; OK unless kFailed.
  const absl::Status& failure() const { return failure_; }
  // Whether that ended or refused a round; otherwise nobody has missed anything yet.
  bool failure_noticed() const { return failure_noticed_; }
  // What the coordinator said when it began to go down; empty if it has not.
  const std::string& draining() const { return draining_; }

  // As joined.
  uint64_t epoch() const { return joined_.epoch; }
  const wire::Joined& joined() const { return joined_; }
  const wire::Join& join() const { return join_; }
  const std::string& address() const { return address_; }

  // "rank 2 of group world (epoch 3) at 10.0.0.1:5000", for texts.
  std::string Where() const;

 private:
  struct Pending {
    RoundKey key;
    MomentKind kind = MomentKind::kSums;
    Precision precision = Precision::kF64;
    int64_t rows = 0;
    int64_t channels = 0;
    absl::Time submitted;
    bool answered = false;
  };

  // What the coordinator said last, for the text of a deadline.
  std::string LastAnswer(absl::Time now) const;
  absl::Status CheckOutgoing(const ReduceKey& key, const Moments& moments) const;
  void OnJoined(wire::Joined* joined, std::vector<Completion>* done);
  void OnResult(wire::Result* result, absl::Time now, std::vector<Completion>* done);
  void OnFailure(const Failure& failure, absl::Time now, std::vector<Completion>* done);
  // The unanswered round with this epoch and number, or null.
  Pending* Find(const RoundKey& key);
  void Answer(Pending* pending, absl::StatusOr<Moments> result, absl::Time now,
              std::vector<Completion>* done);
  void Fail(absl::Status why, std::vector<Completion>* done);
  // A status of this side's making, with the same payload as the coordinator's.
  absl::Status Local(absl::StatusCode code, std::string text, const RoundKey& key) const;

  const std::string address_;
  wire::Join join_;
  wire::Joined joined_;
  Phase phase_ = Phase::kJoining;
  absl::Status failure_;
  bool failure_noticed_ = false;
  std::string draining_;

  // Rounds first_pending_, first_pending_ + 1, ...; the front one is unanswered.
  std::deque<Pending> pending_;
  uint64_t first_pending_ = 1;
  size_t unanswered_ = 0;
  absl::Time answered_ = absl::InfinitePast();  // when a round was last answered
  std::string last_failure_;                    // its text; empty if it was a result

  wire::Codec codec_;
  wire::Contribution outgoing_;  // memory, reused
};

}  // namespace syncnorm
