// Session: one worker's side of the wire, without any I/O.  Told what the caller
// submits, what the coordinator says and what time it is; gives the bytes to
// send and the rounds that have ended.
//
//   kJoining ---- Joined ----> kJoined ---- Leave() ----> kLeft
//      |                       |  ^  |
//      |       stream breaks   v  |  |
//      |                       kAway |
//      +----------------------+------+--- the membership fails ---> kFailed
//
// When the stream breaks the session is away: the shell opens another one, sends
// Start() on it, and, once the session is joined again, TakeReplay().  Nobody else notices.
//
// Callers may rely on:
//   * Rounds are numbered 1, 2, 3, ... in the order of Submit.  Whoever sends
//     the bytes must keep that order.
//   * Every round that Submit accepted ends exactly once, as a Completion.
//   * A result is taken only if its round, layer, direction, step and shape are
//     those of what was submitted; anything else fails the membership.  An answer that comes
//     again is held against the first: it must be the same.
//   * A membership that has failed stays failed: what is pending and
//     whatever is submitted later end with the same status.
//   * What the coordinator would refuse as malformed is refused here,
//     before anything is sent and before a round number is used.
//   * Deadlines.  A round that the coordinator has not answered `round_timeout` +
//     kAnswerSlack after its submission fails the membership, since the others may have got a
//     result: with kUnavailable while away (address, attempts, last error), else with
//     kDeadlineExceeded.  The clock of a round starts with its own submission even where earlier
//     rounds hold it up: the caller's bound would otherwise grow with the queue.  The text
//     then says what the coordinator answered last, which is why.
//   * At most kMaxPending rounds are under way.
//   * What it is handed has at most kMaxState bytes; more is kResourceExhausted.
//   * What is kept for a coordinator that is started again: the contributions that are
//     unanswered, and the answers that some member may still lack (Result.settled), at most
//     kMaxKept.
//
// Thread-safety: thread-compatible.  Reads no clock.
#pragma once

#include <syncnorm/reducer.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport.h"
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
  // A member may be that far behind this one with its answers, and this one with telling.
  static constexpr size_t kMaxKept = 2 * kMaxPending;
  // Of a state that is handed over, in one message: well below the smallest limit of messages.
  static constexpr size_t kHandoverChunk = 512 << 10;
  // Of a state that this worker gives or is given: twice the largest that norms have (1,000 layers
  // x 2,048 channels x 4 x 8 bytes are 64 MiB); as a coordinator takes (its limits.h).
  static constexpr size_t kMaxState = 128 << 20;

  enum class Phase : uint8_t { kJoining, kJoined, kAway, kLeft, kFailed };

  struct Completion {
    uint64_t round = 0;
    absl::StatusOr<Moments> result;
  };
  // Workers that take part from now on.
  struct Admission {
    std::vector<uint32_t> admitted;
    bool provide = false;  // this member hands its state over to them
  };

  // `address` is for texts.  join.round_timeout and join.join_timeout are positive.
  Session(std::string address, wire::Join join);

  // The messages that come first on a new stream: the Join, and what a member that was away brings
  // along.
  std::vector<Bytes> Start();
  // Once joined again: everything that is unanswered, in order.  Empty until then, and after.
  std::vector<Bytes> TakeReplay();

  // Gives the round's number and, in `bytes`, what to send; null while away, as TakeReplay sends
  // it. `boundary`: the round between two steps at which waiting workers are admitted.
  //   kInvalidArgument     the moments or the layer's name are malformed (which, and what is
  //                        allowed);
  //   kResourceExhausted   beyond the coordinator's limits (both values), or kMaxPending;
  //   kFailedPrecondition  Leave or Finish was called;
  //   otherwise            the membership has failed: its status.
  absl::StatusOr<uint64_t> Submit(const ReduceKey& key, const Moments& moments, absl::Time now,
                                  Bytes* bytes, bool boundary = false);

  // Takes in a message (and moves values out of it), whose bytes are `raw`; the end of the stream;
  // the passing of time.  Rounds that ended are appended to `done`.
  void Receive(wire::CoordinatorMessage* message, std::string_view raw, absl::Time now,
               std::vector<Completion>* done);
  void Closed(const absl::Status& why, absl::Time now, std::vector<Completion>* done);
  void Advance(absl::Time now, std::vector<Completion>* done);
  // Bytes arrived that are not a message: fails the membership.
  void Garbled(const absl::Status& why, std::vector<Completion>* done);

  // Gives up what is pending: fails the membership on this side.
  void Abandon(std::vector<Completion>* done);

  // The bytes of a Leave; nothing can be submitted from then on.  Call when nothing is pending.
  // Null if there is no stream to send it on.
  Bytes Leave(std::string_view reason);
  // After a Leave whose stream broke before the coordinator ended it: away again, to say it once
  // more.  The coordinator that had heard it refuses this member then.  False if there is no coming
  // back.
  bool ReturnToLeave(absl::Time now);
  // No data is left.  The bytes to send, if any; finished() until all others have finished.  Call
  // when nothing is pending.  kFailedPrecondition if the group's policy has no such thing.
  absl::StatusOr<Bytes> Finish();
  // The messages that hand `state` over, or tell why there is none.
  std::vector<Bytes> HandOver(const absl::StatusOr<std::string>& state);

  // When Advance has something to do; InfiniteFuture when nothing is pending.
  absl::Time deadline() const;

  Phase phase() const { return phase_; }
  size_t pending() const { return unanswered_; }
  // All rounds up to this one are answered.
  uint64_t answered() const { return first_pending_ - 1; }
  bool finished() const { return finished_; }
  // Why the membership failed; OK unless kFailed.
  const absl::Status& failure() const { return failure_; }
  // What to tell of a stream that is away, with the last error; kUnavailable.
  absl::Status Away(absl::Time now) const;
  // Whether a failure ended or refused a round; otherwise nobody has missed anything yet.
  bool failure_noticed() const { return failure_noticed_; }
  // What the coordinator said when it began to go down; empty if it has not, or is back.
  const std::string& draining() const { return draining_; }
  // Whether the last boundary admitted someone; once.
  std::optional<Admission> TakeAdmission() { return std::exchange(admission_, std::nullopt); }
  // The state that this worker was given when it joined a group that was running.
  const std::string& handed_over() const { return handed_over_; }

  uint64_t epoch() const { return joined_.epoch; }
  // As joined, and as the epochs since have changed it.
  const wire::Joined& joined() const { return joined_; }
  const wire::Join& join() const { return join_; }
  const std::string& address() const { return address_; }
  // How many answers are kept.
  size_t kept() const { return kept_.size(); }

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
    Bytes bytes;
  };
  struct Kept {
    uint64_t round = 0;
    std::string bytes;
  };

  // Whether a coordinator that is started again could take this member back.
  bool resumable() const { return joined_.run_id != 0; }
  // What the coordinator said last, for the text of a deadline.
  std::string LastAnswer(absl::Time now) const;
  absl::Status CheckOutgoing(const ReduceKey& key, const Moments& moments) const;
  wire::Resume MakeResume(uint32_t kept) const;
  void OnJoined(wire::Joined* joined, std::vector<Completion>* done);
  void OnResult(wire::Result* result, std::string_view raw, absl::Time now,
                std::vector<Completion>* done);
  void OnFailure(const Failure& failure, std::string_view raw, absl::Time now,
                 std::vector<Completion>* done);
  void OnHandover(const wire::Handover& piece, std::vector<Completion>* done);
  void OnEpochChanged(wire::EpochChanged* changed, std::vector<Completion>* done);
  // A new epoch in which this member takes part again, after it had finished.
  void TakePartAgain(uint64_t first_round);
  // The unanswered round with this number, or null.
  Pending* Find(const RoundKey& key);
  // Whether the round was answered before; one that is answered differently now is an error.
  bool AnsweredBefore(const RoundKey& key, std::string_view raw, std::vector<Completion>* done);
  void Answer(Pending* pending, std::string_view raw, absl::StatusOr<Moments> result,
              absl::Time now, std::vector<Completion>* done);
  void Settle(uint64_t settled);
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
  bool finished_ = false;
  std::optional<Admission> admission_;
  std::string handed_over_;

  // While away.
  absl::Time away_since_;
  int attempts_ = 0;
  std::string last_error_;
  std::string farewell_;  // why the coordinator is about to end the stream, as it says
  bool replay_ = false;   // TakeReplay is due

  // Rounds first_pending_, first_pending_ + 1, ...; the front one is unanswered.
  std::deque<Pending> pending_;
  uint64_t first_pending_ = 1;
  size_t unanswered_ = 0;
  std::deque<Kept> kept_;  // answers that are not settled, by increasing round
  std::string spare_;      // memory of one that is settled, for the next one
  absl::Time answered_at_ = absl::InfinitePast();  // when a round was last answered
  std::string last_failure_;                       // its text; empty if it was a result

  wire::Codec codec_;
  wire::Contribution outgoing_;  // memory, reused
};

}  // namespace syncnorm
