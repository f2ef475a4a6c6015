// Trainer: one worker of a chaos run: a trainer without tensors.  It joins a group and runs
// steps x layers x {forward, backward} rounds, synchronously or with several under way, and
// writes down what it sent and got.  What it prints, a line each, is what tests wait for:
//
//   joined epoch 7 step 0
//   step 1                            (with progress) about to run it
//   failed ABORTED: ...               a round, or the membership
//   epoch 8 members 0,2               they have changed
//   left
//   digest 0123456789abcdef rounds 640   of all results, whatever the epochs they came in
//
// After a membership failure it joins again, if told so, and goes on with the step that all
// members agree on: the least that any of the survivors has not completed.  In a group that
// shrinks it calls a boundary before every step, and one that comes late goes on with the step
// that it is handed.  In one that finishes it says so when its steps are done.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/group.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/clock.h"
#include "tests/e2e/history.h"
#include "tests/e2e/workload.h"

namespace syncnorm::e2e {

struct TrainerOptions {
  GroupOptions group;
  Workload workload;
  std::string history;
  uint64_t steps = 10;
  int layers = 4;
  // Rounds under way at once; 0: every call waits.
  int window = 0;
  absl::Duration compute;  // between two rounds
  bool progress = false;
  // Goes on with the next round when one failed.
  bool go_on = false;
  // Joins again for that long after a membership failure; implies go_on.
  absl::Duration rejoin;
  // Steps from which this worker leaves a layer out, or exchanges its first two, or doubles its
  // channels: programs that are wrong.  Never, by default.
  std::optional<uint64_t> skip_at, swap_at, widen_at;
  // The step before which this worker's program stops for ever, its connection living on.
  std::optional<uint64_t> hang_at;
};

class Trainer {
 public:
  explicit Trainer(TrainerOptions options);

  // 0: all steps done, and left in good order.
  int Run();

 private:
  struct Call {
    Operation operation;
    uint64_t id = 0;
    MomentsFuture future;
  };

  absl::Status Connect();
  // The step to go on with, which all members agree on.
  absl::Status Agree();
  // Lets those in that wait.
  absl::Status Meet();
  // Until the end, or the failure that ends the membership.
  absl::Status RunSteps();
  absl::Status RunStep();
  absl::Status Perform(const Operation& operation);
  absl::Status Collect();
  absl::Status CollectAll();
  // Takes in the result of an operation.  Not OK if it means the end of this membership, or of
  // the run.
  absl::Status Take(const Operation& operation, uint64_t id, absl::Time waited,
                    const absl::StatusOr<Moments>& result);
  // OK if the run goes on after it.
  absl::Status Survive(const absl::Status& failure);
  bool MembershipIsOver(const absl::Status& failure);
  void NoticeEpoch();
  int Finish();
  void Remember(const Operation& operation, uint64_t digest);
  void Forget(uint64_t before);

  const TrainerOptions options_;
  History history_;
  Clock& clock_;
  std::unique_ptr<Group> group_;
  uint64_t step_ = 0;        // the one to run next
  bool knows_step_ = false;  // whether this worker has been a member before
  std::deque<Call> calls_;
  uint64_t failed_round_ = 0;  // the last that failed in this membership
  uint64_t epoch_ = 0;         // as last noticed
  bool met_ = false;           // joined at the boundary before this step

  // Results of the last steps, which may be run again, and the sum of all before them.
  std::map<std::tuple<uint64_t, int, int>, uint64_t> results_;
  uint64_t digest_ = 0;
  uint64_t rounds_ = 0;
};

}  // namespace syncnorm::e2e
