// Judge: holds what happens in a run against the promise (docs/failure-model.md).  It sees
// what workers submit, get and are told, and knows which faults were injected; it looks
// into neither the coordinator nor the sessions.
//
//   agreement       members that get a result of (run, epoch, round) get the same bytes, and the
//   same
//                   state follows from them; a round that is a result for one is no failure for
//                   another
//   validity        a result is the fold of one contribution of each member, and of all of
//                   them but those that were lost or have finished
//   at most once    by the fold as well: a contribution that counted twice changes it
//   fencing         what a superseded process contributes is in no result
//   bounded wait    each call ends by its deadline + 100 ms
//   cause           no call fails unless a fault was injected that may cause it
//   named failure   texts name the group, and the ranks that the failure lists
//   liveness        when the faults are over, all programs come to their end
//   bounded memory  told by World, which looks at both ends
//
// The first violation is kept; a run is over with it.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/failure.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/wire.h"
#include "tests/sim/log.h"
#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plan.h"
#include "tests/sim/program.h"
#include "tests/sim/timeline.h"

namespace syncnorm::sim {

// A process of a worker.
struct Who {
  uint32_t group = 0;  // index in the plan
  uint32_t rank = 0;
  uint32_t life = 0;  // 0: as first started
  std::string Name() const;
};

struct Violation {
  std::string invariant;
  std::string text;
};

class Judge {
 public:
  struct Tally {
    uint64_t rounds = 0;  // with a result, over all groups
    uint64_t failed_rounds = 0;
    uint64_t failed_memberships = 0;
    uint64_t runs = 0;
  };

  // A call may take that long beyond its deadline.
  static constexpr absl::Duration kSlack = absl::Milliseconds(100);

  Judge(const Timeline* timeline, const Plan* plan, Log* log);

  // From now to `until` calls of the group may fail, because of `why`.
  void Excuse(uint32_t group, absl::Time until, const std::string& why);
  void ExcuseAll(absl::Time until, const std::string& why);
  bool Excused(uint32_t group) const;

  // A member has joined, or resumed, or learned of another epoch.
  void Joined(const Who& who, const wire::Joined& joined, bool resumed);
  void EpochChanged(const Who& who, uint64_t run, const wire::EpochChanged& changed);
  // It is no member any more: left, or finished, until Joined or Returned.
  void Gone(const Who& who, uint64_t run);
  void Returned(const Who& who, uint64_t run);

  void Submitted(const Who& who, const std::string& host, uint64_t run, uint64_t round,
                 Position position, Slice slice);
  // A result came to a member.
  void Received(const Who& who, uint64_t run, const wire::Result& result, const Bytes& bytes);
  // A call is over; `member`: the membership goes on.  `state`: the digest of all that the
  // member has applied.
  void Ended(const Who& who, uint64_t run, uint64_t round, const absl::StatusOr<Moments>& result,
             bool member, uint64_t state);
  // A call of another sort, or a membership, failed.
  void Failed(const Who& who, const absl::Status& status, const std::string& what);
  // Started at `since`, allowed until `bound`.
  void CheckBound(const Who& who, absl::Time bound, const std::string& what);

  void Report(const std::string& invariant, const std::string& text);
  const std::optional<Violation>& violation() const { return violation_; }
  const Tally& tally() const { return tally_; }

 private:
  struct Submission {
    Who who;
    const std::string* host = nullptr;
    Slice slice;
  };
  struct Outcome {
    uint64_t epoch = 0;
    Bytes bytes;
    Moments moments;
    std::vector<uint32_t> members;  // whose contributions it holds
  };
  struct Record {
    Position position;
    bool any = false;
    std::vector<Submission> submissions;
    std::vector<Outcome> outcomes;
    std::optional<Who> got_result;
    std::optional<Who> got_failure;
    std::map<uint64_t, std::pair<Who, uint64_t>> states;  // by epoch of the outcome
  };
  struct Seat {
    std::optional<Who> holder;
    uint64_t epoch = 0;  // in which it joined
    uint64_t from = 1;   // the first round that is its
    bool gone = true;
  };
  struct Run {
    uint32_t group = 0;
    std::vector<Seat> seats;
    std::map<uint64_t, std::vector<uint32_t>> epochs;  // members of each
    std::map<uint64_t, Record> records;                // by round
  };

  Run& At(uint64_t run, uint32_t group);
  const GroupPlan& GroupOf(const Who& who) const { return plan_->groups[who.group]; }
  void CheckEpoch(const Who& who, Run* run, uint64_t epoch, const std::vector<uint32_t>& members);
  // Finds the members whose contributions give `outcome`; a violation if there are none.
  void Verify(const Who& who, uint64_t round, const Run& run, const Record& record,
              Outcome* outcome);
  void CheckText(const Who& who, const absl::Status& status, const std::string& what);

  const Timeline* const timeline_;
  const Plan* const plan_;
  Log* const log_;
  std::vector<absl::Time> excused_;  // by group
  std::map<uint64_t, Run> runs_;
  std::optional<Violation> violation_;
  Tally tally_;
};

}  // namespace syncnorm::sim
