// Membership: who the members of one group are, from its forming to its end.
//
//   kForming ---- every rank is seated ----> kEstablished (epoch 7, 8, ...)
//      |                                        |
//      +--- they disagree, the deadline         +--- a member leaves, is away, is lost: Gone()
//           passes, or all are gone                  (what follows is Group's to decide)
//
// One member's seat:
//
//   kAbsent --> kHere <--> kAway --> kLost        kAway: its stream broke; it may come back
//                 |
//                 +--> kLeft
//
// A group forms anew, of all ranks; or it resumes, of the members of a run that an
// earlier life of the coordinator had: then each brings its place along.
//
// Callers may rely on:
//   * Two workers never hold one rank.  While the group forms, a second one ends
//     the joining for all, since nobody can tell which of them is right; once
//     established, and while a run resumes, the newcomer is refused and the others go on.  The
//     same holds of a newcomer with another world size, policy or job.
//   * The same process (same incarnation) that joins again while the group
//     forms takes its own seat, and its old stream is given back to be closed.
//   * The same, joining again for the same membership (same ticket) before it has shown that it
//     heard of it, takes its own seat too: its stream broke while Joined was on its way.
//   * A member that resumes must be the same process, and not have been lost: what was superseded
//     never comes back (fencing).
//   * While a run resumes, a worker that knows of no run is a member only with that member's
//     ticket: its stream broke before it heard that it had joined.  Any other starts anew, and
//     without kShrink the run is over then, as it is when a member is lost.
//   * Texts name both sides, both values, hosts and pids.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/failure.h>
#include <syncnorm/policy.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "proto/wire.h"
#include "server/limits.h"
#include "server/output.h"

namespace syncnorm::server {

struct Member {
  enum class State : uint8_t { kAbsent, kHere, kAway, kLeft, kLost };
  State state = State::kAbsent;
  StreamId stream = 0;  // valid while kHere
  std::string host;
  uint32_t pid = 0;
  std::string incarnation;
  absl::Time heard = absl::InfinitePast();  // its last message
  absl::Time away = absl::InfinitePast();   // since when, if kAway
  bool takes_part = false;                  // rounds that open wait for it
  bool finished = false;                    // it has said Finish, and waits for the others
  bool acknowledges = false;                // tells up to where it has its answers (1.1)
  bool joined = false;                      // was told Joined, on this stream
  uint64_t received = 0;                    // the last round that came on this stream
  bool knows = false;                       // has shown that it got a Joined
  // 0: not told, or of no use to one that was admitted, as it lacks the state without which it
  // cannot go on.
  uint64_t ticket = 0;
  // While others resume: a worker that knows of no run has claimed the rank, and waits.
  bool anew = false;
  // Of a member that resumes.
  uint64_t epoch = 0;
  uint64_t answered = 0;
  uint32_t kept = 0;  // answers that it still has to bring
};

class Membership {
 public:
  struct Joining {
    enum class Kind : uint8_t {
      kSeated,    // maybe in the place of the stream `replaced`
      kReturned,  // established: a member is back, maybe in the place of `replaced`
      kRefused,   // the newcomer gets `failure`; nothing else changed
      kEnded,     // every stream, the newcomer's too, gets `failure`: the group is over
      kReplaces,  // established: the newcomer has the rank of a member that cannot come back;
                  // nothing changed yet
      kVacant,    // established, or resuming: the rank has nobody, and does not take part
    };
    Kind kind = Kind::kSeated;
    StreamId replaced = 0;
    // That one is of the same membership.  A Join that was long on its way may come after a later
    // one, whose worker then tries again.
    bool again = false;
    // Members that a later epoch than theirs does not have: their streams get `failure`.
    std::vector<StreamId> fenced;
    Failure failure;
  };

  // Of the group that `first` names, with its world size and policies; resuming if `first` is.
  // Nobody is seated yet.
  Membership(const wire::Join& first, absl::Time now, const Timeouts& defaults);

  // One that resumes must resume this run.
  // kInvalidArgument     rank outside of the world size;
  // kAborted             another world size or policy;
  // kAlreadyExists       another job, or another living worker has the rank;
  // kFailedPrecondition  resumes what is over (fenced); or was long on its way, and is of one that
  //                      has resumed since.
  Joining Join(absl::Time now, StreamId stream, const wire::Join& join);

  // Forming: every rank that is expected is seated, and has brought its answers.
  bool full() const;
  // Resuming: goes on without the ranks that are not seated.
  void GiveUpAbsent();
  // Resuming, and full: decides whether those that say that they have finished take part again.
  // Whether the members that take part are others than those of the epoch.
  bool Reconcile();
  // Starts the epoch, or the next one.
  void Establish(uint64_t epoch, uint64_t first_round);
  // A late worker takes the seat of a rank that has nobody, and takes part.
  void Admit(uint32_t rank, Member member);
  // The member's stream is over: its seat is free while the group forms; after, it is away, or
  // spent.
  void Gone(uint32_t rank, Member::State how, absl::Time now = absl::InfinitePast());
  void SetTakesPart(uint32_t rank, bool takes_part) { members_[rank].takes_part = takes_part; }
  void SetFinished(uint32_t rank, bool finished) {
    members_[rank].finished = finished;
    members_[rank].knows |= finished;
  }
  void SetJoined(uint32_t rank) { members_[rank].joined = true; }
  // A contribution to `round` came from it.
  void Heard(uint32_t rank, absl::Time now, uint64_t round) {
    members_[rank].heard = now;
    members_[rank].knows = true;
    members_[rank].received = std::max(members_[rank].received, round);
  }
  // A member that resumes has brought one of its answers; whether it was expected to.
  bool Brought(uint32_t rank);
  // Whether all that are here are members of the run of which `tickets` tells.
  bool AreOf(const std::vector<uint64_t>& tickets) const;

  const std::string& group() const { return group_; }
  OnLoss on_loss() const { return on_loss_; }
  NonFinite non_finite() const { return non_finite_; }
  // Of the earlier life of the coordinator; 0 if it forms anew.
  uint64_t resumed_run() const { return resumed_run_; }
  uint64_t resumed_epoch() const { return resumed_epoch_; }
  bool resuming() const { return resumed_run_ != 0 && !established(); }
  uint64_t resumed_first_round() const { return resumed_first_round_; }
  // Whether Reconcile found that all had finished, and take part again, in resumed_epoch().
  bool regrouped() const { return regrouped_; }
  uint64_t epoch() const { return epoch_; }              // 0 while forming
  uint64_t first_round() const { return first_round_; }  // of the epoch
  bool established() const { return epoch_ != 0; }
  uint32_t size() const { return static_cast<uint32_t>(members_.size()); }
  uint32_t here() const { return here_; }
  uint32_t away() const { return away_; }
  const Member& member(uint32_t rank) const { return members_[rank]; }
  bool takes_part(uint32_t rank) const { return members_[rank].takes_part; }
  // By rank.
  std::vector<bool> taking_part() const;
  std::vector<uint32_t> participants() const;  // ranks, increasing
  std::vector<uint64_t> answered() const;      // of members that resume, by rank
  std::vector<std::string> hosts() const;
  std::vector<uint64_t> tickets() const;
  absl::Duration round_timeout() const { return round_timeout_; }
  absl::Duration join_timeout() const { return join_timeout_; }
  absl::Duration straggler_warning() const { return defaults_.straggler_warning; }
  absl::Time join_deadline() const { return first_join_ + (resuming() ? resume_ : join_timeout_); }

  // Ranks in that state, increasing.
  std::vector<uint32_t> In(Member::State state) const;
  // "rank 3 (host h3, pid 77)".
  std::string Who(uint32_t rank) const;
  // `group "world" epoch 3`, without the epoch while it forms anew.
  std::string Name() const;
  // A failure of this group with the hosts of `ranks` filled in.
  Failure Fail(absl::StatusCode code, RoundKey key, std::vector<uint32_t> ranks,
               std::string text) const;
  // Nobody joined whose ranks are listed, in time.
  Failure JoinDeadline() const;

 private:
  Joining Disagree(absl::StatusCode code, uint32_t rank, const std::string& text) const;
  Joining End(absl::StatusCode code, uint32_t rank, const std::string& text) const;
  Joining Refused(absl::StatusCode code, uint32_t rank, const std::string& text) const;
  Joining Late(const wire::Join& join) const;
  // What all joins of a group must have in common; none if it fits.
  std::optional<Joining> CheckAgreement(const wire::Join& join) const;
  Joining JoinEstablished(absl::Time now, StreamId stream, const wire::Join& join);
  Joining JoinResuming(const wire::Join& join);
  Joining JoinAnew(const wire::Join& join);
  // Takes over what a resuming member of a later epoch knows.
  void Learn(const wire::Resume& resume, Joining* joining);
  // The rank's process is no member of the latest epoch.
  void Fence(uint32_t rank, Joining* joining);
  void Seat(absl::Time now, StreamId stream, const wire::Join& join, Joining* joining);

  const std::string group_;
  const std::string founder_;  // who set the world size and the policies, as Worker() names it
  const OnLoss on_loss_;
  const NonFinite non_finite_;
  std::string job_;  // of the first member that told one
  std::string job_teller_;
  const absl::Time first_join_;
  const Timeouts defaults_;
  const absl::Duration resume_;
  absl::Duration round_timeout_;
  absl::Duration join_timeout_;
  uint64_t resumed_run_ = 0;
  uint64_t resumed_epoch_ = 0;
  uint64_t resumed_first_round_ = 1;  // of that epoch
  bool regrouped_ = false;         // it is one in which all take part again, as some had not heard
  std::vector<bool> resumed_;      // by rank: takes part in that epoch
  std::vector<uint64_t> tickets_;  // of its members, as one of them knows it; may be empty
  uint64_t epoch_ = 0;
  uint64_t first_round_ = 1;  // of that epoch
  uint32_t here_ = 0;
  uint32_t away_ = 0;
  std::vector<Member> members_;  // by rank
};

}  // namespace syncnorm::server
