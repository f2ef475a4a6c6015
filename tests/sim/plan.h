// Plan: what a seed means: the groups, the network and the faults of one run, drawn
// so that runs differ in kind (swarm testing): many faults are off in most of them.
//
// Two sorts of faults:
//   calm   must go unnoticed: delays, connections that break and are noticed at once, short
//          pauses, a coordinator that is killed and is back within seconds.  No call may fail.
//   rough  may cost a group its epoch, a member its membership: crashes, partitions, machines that
//          vanish, long pauses, second processes with one rank.
// A group is calm or rough, and so is what befalls the coordinator.  A calm group beside a rough
// one must notice nothing of it.
//
// Thread-safety: plain values.
#pragma once

#include <syncnorm/policy.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/coordinator.h"
#include "tests/sim/network.h"

namespace syncnorm::sim {

struct GroupPlan {
  std::string name;
  uint64_t seed = 0;  // of its program
  bool calm = true;
  uint32_t size = 1;
  std::vector<std::string> hosts;  // by rank
  OnLoss on_loss = OnLoss::kFail;
  NonFinite non_finite = NonFinite::kFail;
  absl::Duration round_timeout;
  absl::Duration join_timeout;
  uint64_t steps = 0;
  // Rounds that a trainer has under way at once.
  uint32_t window = 1;
  // Steps between two boundaries; 0: none.
  uint32_t boundary_every = 0;
  // kFinish: a worker has up to so many steps more or less than others between two Finish.
  uint32_t uneven = 0;
  absl::Duration compute;  // most, before each round
  double empty_chance = 0;
  double not_finite_chance = 0;
};

// Gaps are means; zero: never.
struct FaultPlan {
  uint32_t most = 0;  // of all, then it is over

  absl::Duration break_every;  // of any worker's connection
  absl::Duration break_notice_most;
  double half_open_chance = 0;
  absl::Duration cut_every;  // of any worker's machine, one way or both
  absl::Duration cut_most;
  absl::Duration worker_pause_every;
  absl::Duration worker_pause_most;
  absl::Duration worker_crash_every;
  absl::Duration worker_return_most;
  double worker_never_returns_chance = 0;
  double machine_vanishes_chance = 0;
  double zombie_chance = 0;  // the old process goes on

  absl::Duration coordinator_crash_every;
  absl::Duration coordinator_down_most;
  absl::Duration coordinator_pause_every;
  absl::Duration coordinator_pause_most;
  absl::Duration drain_every;

  absl::Duration stranger_every;

  // Of each contribution.
  double duplicate_chance = 0;
  double replay_chance = 0;
};

struct Plan {
  uint64_t seed = 0;
  std::vector<GroupPlan> groups;
  NetworkPlan network;
  server::Settings settings;
  bool coordinator_calm = true;
  FaultPlan calm;   // of the calm groups
  FaultPlan rough;  // of the others
  FaultPlan coordinator;

  bool all_calm() const;
};

// `rounds`: about how many, over all groups; 0: as the seed says.
Plan MakePlan(uint64_t seed, uint64_t rounds);

// One line that tells what is special about it.
std::string Describe(const Plan& plan);

}  // namespace syncnorm::sim
