#include "tests/sim/plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/random.h"

namespace syncnorm::sim {
namespace {

constexpr absl::Duration kNever = absl::ZeroDuration();

GroupPlan MakeGroup(Random* random, uint32_t number, uint64_t rounds, bool calm) {
  GroupPlan group;
  group.name = absl::StrCat("g", number);
  group.seed = random->Next();
  group.calm = calm;
  group.size = random->Chance(0.03) ? 32 : 1 + random->Below(8);
  const uint32_t hosts = 1 + random->Below(group.size);
  for (uint32_t rank = 0; rank < group.size; ++rank) {
    group.hosts.push_back(absl::StrCat("h", random->Below(hosts)));
  }
  group.on_loss = random->Pick({OnLoss::kFail, OnLoss::kFail, OnLoss::kShrink, OnLoss::kFinish});
  group.non_finite = random->Pick({NonFinite::kFail, NonFinite::kPropagate, NonFinite::kDrop});
  // Calm groups see faults of some seconds, which a round must outlast.
  group.round_timeout = calm ? absl::Seconds(60) : absl::Seconds(random->Pick({2, 5, 20, 60}));
  group.join_timeout = absl::Seconds(random->Pick({60, 300}));
  if (random->Chance(0.4)) group.window = 1 + random->Below(8);
  // The core knows bounds of its own, 1,024 rounds; this stays far below.
  if (random->Chance(0.02)) group.window = 200;
  if (group.on_loss == OnLoss::kShrink) group.boundary_every = 1 + random->Below(4);
  if (group.on_loss == OnLoss::kFinish) group.uneven = random->Below(4);
  group.compute = random->Pick({absl::ZeroDuration(), absl::Microseconds(300),
                                absl::Milliseconds(2), absl::Milliseconds(8)});
  group.empty_chance = random->Pick({0.0, 0.1, 0.6});
  group.not_finite_chance = random->Chance(0.25) ? 0.01 : 0;
  group.steps = std::max<uint64_t>(rounds / 5, 2);
  return group;
}

FaultPlan Calm(Random* random) {
  FaultPlan faults;
  faults.most = random->Below(40);
  // A worker comes back in time where nothing holds it up, so it is one or the other.
  if (random->Chance(0.5)) {
    if (random->Chance(0.8)) faults.break_every = absl::Milliseconds(random->Pick({80, 500}));
    faults.break_notice_most = absl::Milliseconds(15);
  } else {
    if (random->Chance(0.6)) faults.cut_every = absl::Milliseconds(random->Pick({100, 1000}));
    faults.cut_most = absl::Seconds(random->Pick({1, 9}));
    if (random->Chance(0.6))
      faults.worker_pause_every = absl::Milliseconds(random->Pick({100, 1000}));
    faults.worker_pause_most = absl::Seconds(random->Pick({1, 9}));
  }
  if (random->Chance(0.3)) faults.duplicate_chance = 0.05;
  return faults;
}

FaultPlan Rough(Random* random) {
  FaultPlan faults;
  const auto every = [&](double chance) {
    return random->Chance(chance) ? absl::Milliseconds(random->Pick({50, 300, 2000})) : kNever;
  };
  faults.most = 1 + random->Below(60);
  faults.break_every = every(0.5);
  faults.break_notice_most = absl::Milliseconds(random->Pick({10, 100, 1000}));
  faults.half_open_chance = random->Pick({0.0, 0.0, 0.2});
  faults.cut_every = every(0.3);
  faults.cut_most = absl::Seconds(random->Pick({1, 20, 60}));
  faults.worker_pause_every = every(0.3);
  faults.worker_pause_most = absl::Seconds(random->Pick({1, 10, 90}));
  faults.worker_crash_every = every(0.5);
  faults.worker_return_most = absl::Milliseconds(random->Pick({10, 1000, 20000}));
  faults.worker_never_returns_chance = random->Pick({0.0, 0.0, 0.0, 0.2});
  faults.machine_vanishes_chance = random->Pick({0.0, 0.3});
  faults.zombie_chance = random->Pick({0.0, 0.0, 0.3});
  faults.stranger_every = every(0.3);
  if (random->Chance(0.3)) faults.duplicate_chance = 0.05;
  if (random->Chance(0.3)) faults.replay_chance = 0.02;
  return faults;
}

FaultPlan OfCoordinator(Random* random, bool calm) {
  FaultPlan faults;
  faults.most = random->Below(calm ? 12 : 20);
  const auto every = [&](double chance) {
    return random->Chance(chance) ? absl::Milliseconds(random->Pick({100, 700, 3000})) : kNever;
  };
  faults.coordinator_crash_every = every(0.5);
  faults.coordinator_down_most = absl::Milliseconds(calm ? 1500 : random->Pick({10, 1500, 20000}));
  faults.coordinator_pause_every = every(0.3);
  faults.coordinator_pause_most = absl::Seconds(calm ? 1 : random->Pick({1, 20, 70}));
  faults.drain_every = every(0.15);
  return faults;
}

}  // namespace

bool Plan::all_calm() const {
  return coordinator_calm &&
         std::all_of(groups.begin(), groups.end(), [](const GroupPlan& g) { return g.calm; });
}

Plan MakePlan(uint64_t seed, uint64_t rounds) {
  Random random(Mix(seed, 0x706c616e));
  Plan plan;
  plan.seed = seed;
  const uint32_t groups = random.Chance(0.7) ? 1 : 2 + random.Below(3);
  const uint64_t drawn = random.Pick({60, 300, 1000, 2000});
  if (rounds == 0) rounds = drawn;
  plan.coordinator_calm = random.Chance(0.6);
  const double calm_chance = random.Pick({1.0, 0.5, 0.0});
  for (uint32_t number = 0; number < groups; ++number) {
    plan.groups.push_back(MakeGroup(&random, number, rounds / groups,
                                    plan.coordinator_calm && random.Chance(calm_chance)));
  }
  plan.calm = Calm(&random);
  plan.rough = Rough(&random);
  plan.coordinator = OfCoordinator(&random, plan.coordinator_calm);

  NetworkPlan& network = plan.network;
  network.least = absl::Microseconds(random.Pick({20, 50, 1000}));
  network.most = network.least + absl::Microseconds(random.Pick({0, 100, 5000}));
  const bool any_calm = std::any_of(plan.groups.begin(), plan.groups.end(),
                                    [](const GroupPlan& g) { return g.calm; });
  if (random.Chance(0.3)) {
    network.spike_chance = 0.01;
    network.spike = any_calm ? absl::Milliseconds(10) : absl::Milliseconds(random.Pick({10, 2000}));
    // Slow is not wrong: a window of 200 rounds may take half a minute then.
    if (network.spike > absl::Seconds(1)) {
      for (GroupPlan& group : plan.groups) group.round_timeout = absl::Minutes(5);
    }
  }
  return plan;
}

std::string Describe(const Plan& plan) {
  std::string text = absl::StrCat("coordinator ", plan.coordinator_calm ? "calm" : "rough");
  for (const GroupPlan& group : plan.groups) {
    const auto on_loss = Name(group.on_loss);
    const auto non_finite = Name(group.non_finite);
    absl::StrAppend(&text, "; ", group.name, ": ", group.size, " workers, ",
                    group.calm ? "calm" : "rough", ", on_loss ", std::string(on_loss),
                    ", non_finite ", std::string(non_finite), ", ", group.steps, " steps, window ",
                    group.window);
  }
  return text;
}

}  // namespace syncnorm::sim
