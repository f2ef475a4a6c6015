// Worker: one rank of a group, and the processes that take its place one after the other.  A
// process is the production Session under a shell that does what client/join.cc and
// client/connection.cc do, and a trainer that walks the group's program:
//
//   join (again and again) --> rounds, up to `window` at once --> boundaries, Finish --> Leave
//        ^                       |
//        +--- the membership fails, from the last step that all have done
//
// What workers share beside syncnorm, as jobs do, is in TrainedGroup: how far each has come
// (the checkpoints), and whether the job is over.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/sim/judge.h"
#include "tests/sim/log.h"
#include "tests/sim/mutation.h"
#include "tests/sim/network.h"
#include "tests/sim/plan.h"
#include "tests/sim/program.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"

namespace syncnorm::sim {

struct TrainedGroup {
  TrainedGroup(const GroupPlan* plan, uint32_t index);

  // The step that members of a run begin with: known from the first that has joined it.
  uint64_t StartOf(uint64_t run);

  const GroupPlan* const plan;
  const uint32_t index;
  const Program program;
  std::vector<uint64_t> progress;  // by rank: the step that it would go on with
  std::map<uint64_t, uint64_t> starts;
  bool over = false;     // a worker has come to the end, or one that all need will not come back
  bool reduced = false;  // a worker will not come back: no group of all forms any more
};

class Process;

class Worker {
 public:
  struct Surroundings {
    Timeline* timeline;
    Network* network;
    Judge* judge;
    Log* log;
    Mutation mutation;
    TrainedGroup* group;
    const FaultPlan* faults;
    uint64_t* repeats;  // counts contributions that were sent again out of turn
  };

  Worker(const Surroundings& around, uint32_t rank, uint32_t machine, uint64_t seed);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // A process starts: the first, or after Crash or Disown.
  void Start();
  // kill -9; the coordinator learns of it after `notice`.
  void Crash(absl::Duration notice);
  // The process goes on, though a successor is about to be started.
  void Disown();
  // It will not be started again.
  void GiveUp();
  void Pause();
  void Resume();

  // Whether nothing more is expected of it.
  bool done() const;
  bool running() const;  // a process is there, and has not come to its end
  bool paused() const;
  // Reports calls that take longer than they may.
  void Look();

  const TrainedGroup& group() const { return *around_.group; }
  uint32_t rank() const { return rank_; }
  uint32_t machine() const { return machine_; }
  // When it was last interfered with.
  absl::Time touched() const { return touched_; }
  void Touch(absl::Time until) { touched_ = until; }
  // Digest of all results that it has applied.
  uint64_t state() const;
  std::string Where() const;

 private:
  const Surroundings around_;
  const uint32_t rank_;
  const uint32_t machine_;
  Random random_;
  absl::Time touched_ = absl::InfinitePast();
  bool gave_up_ = false;
  std::vector<std::unique_ptr<Process>> lives_;
  Process* current_ = nullptr;
};

}  // namespace syncnorm::sim
