// Membership: who the members of one group are, for one epoch.
//
//   kForming ---- every rank is seated ----> kEstablished
//      |                                        |
//      +--- they disagree, the deadline         +--- a member leaves or is lost: Gone()
//           passes, or all are gone                  (what follows is Group's to decide)
//
// Callers may rely on:
//   * Two workers never hold one rank.  While the group forms, a second one ends
//     the joining for all, since nobody can tell which of them is right; once
//     established, the newcomer is refused and the epoch goes on.
//   * The same process (same incarnation) that joins again while the group
//     forms takes its own seat, and its old stream is given back to be closed.
//   * Texts name both sides, both values, hosts and pids.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/failure.h>

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
  enum class State : uint8_t { kAbsent, kHere, kLeft, kLost };
  State state = State::kAbsent;
  StreamId stream = 0;  // valid while kHere
  std::string host;
  uint32_t pid = 0;
  std::string incarnation;
  absl::Time heard = absl::InfinitePast();  // its last message
};

class Membership {
 public:
  struct Joining {
    enum class Kind : uint8_t {
      kSeated,   // maybe in the place of the stream `replaced`
      kRefused,  // the newcomer gets `failure`; nothing else changed
      kEnded,    // every stream, the newcomer's too, gets `failure`: the group is over
    };
    Kind kind = Kind::kSeated;
    StreamId replaced = 0;
    Failure failure;
  };

  // Of the group that `first` names, with its world size.  Nobody is seated yet.
  Membership(const wire::Join& first, absl::Time now, const Timeouts& defaults);

  // kInvalidArgument  rank outside of the world size;
  // kAborted          another world size;
  // kAlreadyExists    another job, or another living worker has the rank.
  Joining Join(absl::Time now, StreamId stream, const wire::Join& join);

  // Every rank is seated: starts the epoch.
  void Establish(uint64_t epoch);
  // The member's stream is over: its seat is free while the group forms, and spent after.
  void Gone(uint32_t rank, Member::State how);
  void Heard(uint32_t rank, absl::Time now) { members_[rank].heard = now; }

  const std::string& group() const { return group_; }
  uint64_t epoch() const { return epoch_; }  // 0 while forming
  bool established() const { return epoch_ != 0; }
  bool full() const { return here_ == size(); }
  uint32_t size() const { return static_cast<uint32_t>(members_.size()); }
  uint32_t here() const { return here_; }
  const Member& member(uint32_t rank) const { return members_[rank]; }
  std::vector<std::string> hosts() const;
  absl::Duration round_timeout() const { return round_timeout_; }
  absl::Duration straggler_warning() const { return defaults_.straggler_warning; }
  absl::Time join_deadline() const { return first_join_ + join_timeout_; }

  // Ranks in that state, increasing.
  std::vector<uint32_t> In(Member::State state) const;
  // "rank 3 (host h3, pid 77)".
  std::string Who(uint32_t rank) const;
  // `group "world" epoch 3`, without the epoch while forming.
  std::string Name() const;
  // A failure of this group with the hosts of `ranks` filled in.
  Failure Fail(absl::StatusCode code, RoundKey key, std::vector<uint32_t> ranks,
               std::string text) const;
  // Nobody joined whose ranks are listed, in time.
  Failure JoinDeadline() const;

 private:
  Joining Disagree(absl::StatusCode code, uint32_t rank, const std::string& text) const;

  const std::string group_;
  const std::string founder_;  // who set the world size, as Worker() names it
  std::string job_;            // of the first member that told one
  std::string job_teller_;
  const absl::Time first_join_;
  const Timeouts defaults_;
  absl::Duration round_timeout_;
  absl::Duration join_timeout_;
  uint64_t epoch_ = 0;
  uint32_t here_ = 0;
  std::vector<Member> members_;  // by rank
};

}  // namespace syncnorm::server
