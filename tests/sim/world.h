// World: one run of the simulator: a coordinator, the workers of some groups, the
// network between them, and what befalls them, all of it drawn from one seed.
//
// A run ends when all programs have come to their end, or at the first violation; it
// cannot last for ever, since faults end and liveness has a bound.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/coordinator_node.h"
#include "tests/sim/judge.h"
#include "tests/sim/log.h"
#include "tests/sim/mutation.h"
#include "tests/sim/network.h"
#include "tests/sim/plan.h"
#include "tests/sim/program.h"
#include "tests/sim/stranger.h"
#include "tests/sim/timeline.h"
#include "tests/sim/worker.h"

namespace syncnorm::sim {

// What was done to a run.
struct Faults {
  uint64_t breaks = 0;
  uint64_t half_open = 0;
  uint64_t cuts = 0;
  uint64_t worker_pauses = 0;
  uint64_t worker_crashes = 0;
  uint64_t zombies = 0;
  uint64_t coordinator_kills = 0;
  uint64_t coordinator_pauses = 0;
  uint64_t drains = 0;
  uint64_t strangers = 0;
  uint64_t repeats = 0;  // contributions that were sent again out of turn

  void Add(const Faults& more);
};

struct RunResult {
  std::optional<Violation> violation;
  Judge::Tally tally;
  Faults faults;
  uint64_t events = 0;
  absl::Duration lasted;        // virtual
  uint64_t digest = 0;          // of the final states: equal for equal seeds
  std::deque<std::string> log;  // its end, if kept
};

class World {
 public:
  World(const Plan& plan, Log::Level level, Mutation mutation);
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  RunResult Run();

 private:
  using Action = void (World::*)();

  void PlanFaults();
  // Does it again and again, in gaps of about `every`, until `left` is used up.
  void PlanAgain(absl::Duration every, uint32_t* left, Action action);
  bool Done() const;

  void BreakCalm();
  void CutCalm();
  void PauseCalm();
  void BreakRough();
  void CutRough();
  void PauseRough();
  void CrashRough();
  void Stranger();
  void KillCoordinator();
  void PauseCoordinator();
  void DrainCoordinator();

  // A worker of a calm, or a rough, group; null if there is none.
  Worker* Pick(bool calm);
  // Whether the coordinator is there and was left alone for that long.
  bool Quiet(absl::Duration since) const;
  void Cut(Worker* worker, absl::Duration duration);
  void Pause(Worker* worker, absl::Duration duration);
  void ExcuseRough(uint32_t group, absl::Duration duration, const std::string& why);
  void ExcuseCoordinator(absl::Duration duration, const std::string& why);
  // The longest time from a fault's end to the end of what follows from it.
  absl::Duration Aftermath(const GroupPlan& group) const;
  // Looks at everything that has a bound.
  void Look();

  const Plan plan_;
  const Mutation mutation_;
  Timeline timeline_;
  const absl::Time start_;
  Log log_;
  Judge judge_;
  Network network_;
  Random random_;
  CoordinatorNode coordinator_;
  std::vector<std::unique_ptr<TrainedGroup>> groups_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<StrangerCaller>> strangers_;
  uint32_t calm_left_, rough_left_, coordinator_left_;
  absl::Time coordinator_touched_ = absl::InfinitePast();  // end of its last fault
  absl::Time calm_break_ = absl::InfinitePast();
  absl::Time last_fault_;  // end of the last of all
  Faults faults_;
};

// Plans and runs a seed.
RunResult RunSeed(uint64_t seed, uint64_t rounds, Log::Level level, Mutation mutation);

}  // namespace syncnorm::sim
