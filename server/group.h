// Group: one group in one epoch, from its first join until its last stream is
// gone: Membership and Rounds, and what the one does to the other.
//
//   kForming ----> kRunning ----> kLeaving ----> kClosed
//                      |   a member left   ^   a member contributes, or is lost
//                      +-------------------+
//                        a member is lost, or leaves a round that waits for it
//
// Callers may rely on:
//   * When a member is lost no round of the epoch completes any more.  All that
//     wait are answered at once, every remaining member is told
//     (Failure with round 0), and so is every later contribution.
//   * A clean end is quiet: members that leave one after the other, with no
//     round open, cause no failure.  Only a contribution after that fails,
//     naming who left.
//
// A group that is not Current() any more makes room for a new one of its name;
// its streams may still be there, to be told why.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/failure.h>

#include <cstdint>
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

namespace syncnorm::server {

class Group {
 public:
  enum class State : uint8_t { kForming, kRunning, kLeaving, kClosed };

  // `id` is the owner's, to find it again.  `codec` outlives the group.
  Group(uint64_t id, const wire::Join& first, absl::Time now, const Limits& limits,
        const Timeouts& timeouts, wire::Codec* codec);
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  // Seats the worker, or says why not.  The caller then sends the failure to whom it concerns, and
  // calls Start when the group is full.
  Membership::Joining Join(absl::Time now, StreamId stream, const wire::Join& join) {
    return members_.Join(now, stream, join);
  }
  bool full() const { return members_.full(); }
  // Starts the epoch: `joined` is completed and sent to all.
  void Start(uint64_t epoch, wire::Joined joined, Output* output);
  // Ends the joining: all get the failure, and their streams are closed.
  void EndJoining(const Failure& failure, Output* output);

  // May take the values out of `contribution`.
  void Contribute(absl::Time now, uint32_t rank, wire::Contribution* contribution, Output* output);
  void Leave(absl::Time now, uint32_t rank, const std::string& reason, Output* output);
  // The member's stream is over; `how` completes "rank 2 (host h, pid 1) ...".
  void Lose(absl::Time now, uint32_t rank, absl::string_view how, Output* output);
  // Fails what has waited too long; kForming: the joining.
  void Tick(absl::Time now, Output* output);
  // No round starts any more.
  void Drain();
  // The coordinator goes down: fails what is open and closes all streams.
  void Shut(absl::Time now, Output* output);

  // The text of the first failure since the last call; "" if there was none.
  std::string TakeIncident() { return std::exchange(incident_, std::string()); }

  uint64_t id() const { return id_; }
  State state() const { return state_; }
  // Whether a worker that joins belongs to this one.
  bool Current() const { return state_ == State::kForming || state_ == State::kRunning; }
  bool empty() const { return members_.here() == 0; }
  // Whether nobody waits for it to go on: it has members, none of which is about to get a result,
  // or to leave after the others.
  bool AtRest() const;
  absl::Time NextDeadline() const;
  const Membership& members() const { return members_; }
  const Rounds* rounds() const { return rounds_.has_value() ? &*rounds_ : nullptr; }
  // Streams of the members that are here.
  std::vector<StreamId> streams() const;

 private:
  // Ends the epoch; `what` says why, and names `ranks`.
  void Close(absl::Time now, absl::StatusCode code, std::vector<uint32_t> ranks,
             const std::string& what, Output* output);
  // Sends and clears answers_, and notes the failures among them.
  void Send(Output* output);
  void SendToAll(const Bytes& bytes, bool answer, bool close, Output* output);
  Bytes Encode(const Failure& failure);

  const uint64_t id_;
  const Limits limits_;
  wire::Codec* const codec_;
  State state_ = State::kForming;
  Membership members_;
  std::optional<Rounds> rounds_;   // once running
  std::optional<Failure> closed_;  // why, once closed
  std::vector<Answer> answers_;    // reused
  std::string incident_;
};

}  // namespace syncnorm::server
