// Group: one group from its first join until its last stream is gone: Membership
// and Rounds, and what the one does to the other.
//
//   kForming ----> kRunning ----> kLeaving ----> kClosed
//      |               |   a member left   ^   a member contributes, or is lost
//      |               +-------------------+
//      |                 a member is lost, or leaves a round that waits for it
//      +--- resumes a run of an earlier life of the coordinator, or forms anew
//
// Callers may rely on:
//   * A member whose stream breaks is away for Timeouts.reconnect.  When it comes back
//     within that, nothing has happened; afterwards it is lost.
//   * Policies kFail and kFinish: when a member is lost no round of the epoch
//     completes any more.  All that wait are answered at once, every remaining member is told
//     (Failure with round 0), and so is every later contribution.
//   * Policy kShrink: open rounds complete without the lost member, and the next epoch,
//     without it, is told to all.  A worker with a rank that nobody holds waits until
//     a boundary round completes; then it takes part, and one of the others hands it
//     its state over before it is Joined.
//   * kFinish and kShrink: a member that has finished is not waited for.  When all have, all
//     take part again.
//   * A clean end is quiet: members that leave one after the other, with no
//     round open, cause no failure.  Only a contribution after that fails,
//     naming who left.
//   * Answers that resuming members bring along are those that the others get.  Two that differ
//     end the group: members would not have had the same bytes.
//
// A group that is not Current() any more makes room for a new one of its name;
// its streams may still be there, to be told why.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/failure.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/limits.h"
#include "server/membership.h"
#include "server/output.h"
#include "server/rounds.h"
#include "server/timeline.h"

namespace syncnorm::server {

class Group {
 public:
  enum class State : uint8_t { kForming, kRunning, kLeaving, kClosed };

  // What all groups of a coordinator share; outlives them.
  struct Shared {
    Limits limits;
    Timeouts timeouts;
    wire::Codec codec;
    uint64_t coordinator_id = 0;
    uint64_t epochs = 0;  // the last epoch issued, of all groups
    uint64_t runs = 0;    // started or resumed here
  };

  // What became of a worker that joins.
  enum class Welcome : uint8_t {
    kIn,      // its stream belongs to the group
    kOut,     // it was answered, and its stream closed
    kMakeNew  // this group is over: a new one is to be made for it
  };

  // `id` is the owner's, to find it again.
  Group(uint64_t id, const wire::Join& first, absl::Time now, Shared* shared);
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  Welcome Join(absl::Time now, StreamId stream, const wire::Join& join, Output* output);
  // A member that resumes has brought an answer along: the bytes of a CoordinatorMessage.  Not OK:
  // it breaks the protocol.
  absl::Status Restore(uint32_t rank, const std::string& answer, Output* output);
  // May take the values out of `contribution`.  Not OK: it breaks the protocol.
  absl::Status Contribute(absl::Time now, uint32_t rank, wire::Contribution* contribution,
                          Output* output);
  // The member has no data left.  Not OK: it breaks the protocol.
  absl::Status Finish(absl::Time now, uint32_t rank, Output* output);
  // A piece of the state for those that were admitted, or why there is none.  Not OK: it breaks the
  // protocol.
  absl::Status HandOver(absl::Time now, uint32_t rank, const wire::Handover& piece, Output* output);
  void Leave(absl::Time now, StreamId stream, uint32_t rank, const std::string& reason,
             Output* output);
  // The stream is over; `how` completes "rank 2 (host h, pid 1) ...".  `may_return`: the worker may
  // come back on another one.
  void Lose(absl::Time now, StreamId stream, uint32_t rank, absl::string_view how, bool may_return,
            Output* output);
  // Fails what has waited too long, and writes the timeline.
  void Tick(absl::Time now, Output* output);
  // No round starts any more.
  void Drain(absl::Time now, Output* output);
  // The coordinator goes down: closes all streams.  Members may resume at its next life.
  void Shut(absl::Time now, Output* output);

  // Forming anew: makes room for a run that members resume; its workers try again.
  void GiveWay(const std::string& why, Output* output) { EndJoining(Unavailable(why), output); }

  uint64_t id() const { return id_; }
  State state() const { return state_; }
  uint64_t run_id() const { return run_id_; }
  // Whether a worker that joins belongs to this one.
  bool Current() const { return state_ == State::kForming || state_ == State::kRunning; }
  // No member is here, or may come back.
  bool empty() const { return members_.here() + members_.away() == 0 && waiting_.empty(); }
  // Whether the stream may contribute: it is that of a member that was told Joined.
  bool IsJoined(StreamId stream, uint32_t rank) const;
  // Whether nobody waits for it to go on: it has members, none of which is about to get a result,
  // or to leave after the others.
  bool AtRest() const;
  absl::Time NextDeadline() const;
  const Membership& members() const { return members_; }
  const Rounds* rounds() const { return rounds_.has_value() ? &*rounds_ : nullptr; }
  const Timeline& timeline() const { return timeline_; }
  // Whether a member that resumes `run` belongs to this one.
  bool Resumable(uint64_t run) const { return run_id_ == run && state_ != State::kClosed; }
  // "rank 2 (host h, pid 1)", of the worker on the stream: a member, or one that waits.
  std::string Who(StreamId stream, uint32_t rank) const;
  // Why it closed; none while it has not.
  const std::optional<Failure>& closed() const { return closed_; }
  // The text of the first failure since the last call; "" if there was none.
  std::string TakeIncident() { return std::exchange(incident_, std::string()); }
  // Streams of the members that are here, and of those that wait to be admitted.
  std::vector<StreamId> streams() const;

 private:
  // A worker that waits for a boundary.
  struct Candidate {
    Member member;
    absl::Time since;
    absl::Duration timeout;
  };
  // A state on its way to those that were admitted.
  struct HandingOver {
    uint32_t provider = 0;
    std::vector<uint32_t> to;
    uint64_t bytes = 0;
    absl::Time deadline;
  };

  // Starts the epoch, or resumes it, with who is there.
  void Start(Output* output);
  void SendJoined(uint32_t rank, Output* output);
  // The answers that resuming members brought, from the first that one of them may lack; none, and
  // the joining ends, if one is missing.
  std::optional<std::vector<KeptAnswer>> TakeBrought(Output* output);
  Failure Unavailable(const std::string& why) const;
  // Ends the joining: all get the failure, and their streams are closed.
  void EndJoining(const Failure& failure, Output* output);
  Welcome Wait(absl::Time now, StreamId stream, const wire::Join& join, Output* output);
  // If the worker on the stream waits to be admitted, it does no more.
  void StopWaiting(StreamId stream, uint32_t rank);
  void TurnAway(StreamId stream, const Failure& failure, Output* output);
  void TurnAwayWaiting(const Failure& failure, Output* output);
  // What another stream of the newcomer's membership is told.
  Failure ComeAgain(const wire::Join& join) const;
  // What whoever loses its rank to the newcomer is told.
  Failure ReplacedBy(const wire::Join& join) const;
  // Policy kShrink: the rank is gone for good; `how` says how.
  void Shrink(absl::Time now, uint32_t rank, const std::string& how, Output* output);
  void LoseForGood(absl::Time now, uint32_t rank, const std::string& how, Output* output);
  // The next epoch begins: told to all members but those in `admitted`.
  void ChangeEpoch(const std::string& why, const std::vector<uint32_t>& admitted, uint32_t provider,
                   Output* output);
  // If nobody takes part any more, and some have finished, these take part again.
  void Regroup(Output* output);
  // Between two rounds: those that wait take part from now on.
  void AdmitWaiting(absl::Time now, Output* output);
  // The admitted cannot be given a state: they are turned away.
  void EndHandover(absl::Time now, absl::StatusCode code, const std::string& why, Output* output);
  bool IsAdmitted(uint32_t rank) const;
  // Ends the epoch; `what` says why, and names `ranks`.
  void Close(absl::Time now, absl::StatusCode code, std::vector<uint32_t> ranks,
             const std::string& what, Output* output);
  // The same, as members have left; `rest` follows that.
  void CloseAsOthersLeft(absl::Time now, const std::string& rest, Output* output);
  // Those that are away cannot come back any more.
  void LoseAway();
  // Sends and clears answers_, and notes the failures among them.
  void Send(absl::Time now, Output* output);
  void SendToAll(const Bytes& bytes, bool answer, bool close, Output* output);
  // `ranks`: whom it is about.
  void Note(Note::Severity severity, std::string text, Output* output,
            std::vector<uint32_t> ranks = {});
  void Note(const Failure& failure, Output* output);
  Bytes Encode(const Failure& failure);

  const uint64_t id_;
  Shared* const shared_;
  State state_ = State::kForming;
  bool draining_ = false;
  uint64_t run_id_ = 0;
  Membership members_;
  std::map<uint64_t, KeptAnswer> brought_;  // by round; while resuming
  uint64_t brought_bytes_ = 0;
  std::map<uint32_t, Candidate> waiting_;  // by rank
  uint64_t regrouped_ = 0;                 // the last epoch in which all took part again
  std::optional<HandingOver> handing_over_;
  std::optional<Rounds> rounds_;  // once running
  Timeline timeline_;
  std::optional<Failure> closed_;  // why, once closed
  std::vector<Answer> answers_;    // reused
  std::string incident_;
};

}  // namespace syncnorm::server
