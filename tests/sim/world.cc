#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace syncnorm::sim {
namespace {

// Faults that have not happened by then do not happen: a minute of rounds of a millisecond each is
// more than any program has.
constexpr absl::Duration kFaultsLast = absl::Minutes(3);
// Between two looks at what has a bound.
constexpr absl::Duration kLookEvery = absl::Milliseconds(500);
// A calm connection is left alone for that long after it broke: three times what a worker has to
// come back (Timeouts.reconnect).
constexpr absl::Duration kCalmGap = absl::Milliseconds(500);
// And the coordinator after its restart: members have resumed, and the rounds that waited are done.
constexpr absl::Duration kCoordinatorGap = absl::Seconds(5);
// All of a run that was left alone: 2,000 rounds of at most 100 ms.
constexpr absl::Duration kProgramLasts = absl::Minutes(4);

}  // namespace

void Faults::Add(const Faults& more) {
  breaks += more.breaks;
  half_open += more.half_open;
  cuts += more.cuts;
  worker_pauses += more.worker_pauses;
  worker_crashes += more.worker_crashes;
  zombies += more.zombies;
  coordinator_kills += more.coordinator_kills;
  coordinator_pauses += more.coordinator_pauses;
  drains += more.drains;
  strangers += more.strangers;
  repeats += more.repeats;
}

World::World(const Plan& plan, Log::Level level, Mutation mutation)
    : plan_(plan),
      mutation_(mutation),
      start_(timeline_.now()),
      log_(&timeline_, level),
      judge_(&timeline_, &plan_, &log_),
      network_(&timeline_, plan_.network, Mix(plan_.seed, 1)),
      random_(Mix(plan_.seed, 2)),
      coordinator_(&timeline_, &network_, plan_.settings, &judge_, &log_, mutation,
                   Mix(plan_.seed, 3)),
      calm_left_(plan_.calm.most),
      rough_left_(plan_.rough.most),
      coordinator_left_(plan_.coordinator.most),
      last_fault_(start_) {
  uint32_t machine = 0;
  for (uint32_t index = 0; index < plan_.groups.size(); ++index) {
    const GroupPlan& group = plan_.groups[index];
    groups_.push_back(std::make_unique<TrainedGroup>(&group, index));
    const FaultPlan& faults = group.calm ? plan_.calm : plan_.rough;
    for (uint32_t rank = 0; rank < group.size; ++rank, ++machine) {
      Worker::Surroundings around{&timeline_, &network_,       &judge_,
                                  &log_,      mutation_,       groups_.back().get(),
                                  &faults,    &faults_.repeats};
      workers_.push_back(
          std::make_unique<Worker>(around, rank, machine, Mix(plan_.seed, 4, index, rank)));
    }
  }
}

bool World::Done() const {
  return std::all_of(workers_.begin(), workers_.end(),
                     [](const std::unique_ptr<Worker>& worker) { return worker->done(); });
}

RunResult World::Run() {
  log_.Add("seed ", plan_.seed, ": ", Describe(plan_));
  coordinator_.Start();
  for (const std::unique_ptr<Worker>& worker : workers_) {
    timeline_.After(random_.Between(absl::ZeroDuration(), absl::Milliseconds(50)),
                    [worker = worker.get()] { worker->Start(); });
  }
  PlanFaults();
  Look();
  while (!judge_.violation().has_value() && !Done() && timeline_.Step()) {
  }
  // What is left must go away by itself: lines, streams, groups.
  const absl::Time quiet = timeline_.now() + absl::Minutes(10);
  calm_left_ = rough_left_ = coordinator_left_ = 0;
  bool empty = false;
  while (!judge_.violation().has_value() && !empty && timeline_.now() < quiet && timeline_.Step()) {
    empty = coordinator_.up() && !coordinator_.paused() && coordinator_.snapshot().streams == 0 &&
            coordinator_.snapshot().groups == 0;
  }
  if (!judge_.violation().has_value() && !empty) {
    judge_.Report("bounded memory", absl::StrCat("all have left, but the coordinator still has ",
                                                 coordinator_.snapshot().streams, " streams and ",
                                                 coordinator_.snapshot().groups, " groups"));
  }
  RunResult result;
  result.violation = judge_.violation();
  result.tally = judge_.tally();
  result.faults = faults_;
  result.events = timeline_.steps();
  result.lasted = timeline_.now() - start_;
  result.digest = timeline_.steps();
  for (const std::unique_ptr<Worker>& worker : workers_) {
    result.digest = Mix(result.digest, worker->state());
  }
  result.log = log_.lines();
  return result;
}

void World::Look() {
  for (const std::unique_ptr<Worker>& worker : workers_) worker->Look();
  if (coordinator_.up()) {
    const server::Snapshot now = coordinator_.snapshot();
    const server::Limits& limits = plan_.settings.limits;
    uint64_t windows = 0;
    for (const GroupPlan& group : plan_.groups) {
      // A round is open or unsettled while one member may still ask for it: those of its window,
      // and of the one before, whose answers its next contribution acknowledges.
      windows = std::max<uint64_t>(windows, 2 * group.window + 2);
    }
    const uint64_t groups = now.groups;
    const uint64_t kept = std::max<uint64_t>(limits.kept_rounds, windows);
    if (now.open_rounds > groups * windows || now.kept_rounds > groups * kept ||
        now.kept_bytes > groups * limits.kept_bytes ||
        now.open_bytes > groups * limits.open_bytes || now.streams > limits.streams ||
        now.groups > limits.groups) {
      judge_.Report("bounded memory",
                    absl::StrCat("the coordinator has ", now.groups, " groups, ", now.members,
                                 " members, ", now.open_rounds, " open rounds of ", now.open_bytes,
                                 " bytes, ", now.kept_rounds, " kept of ", now.kept_bytes));
    }
  }
  const absl::Time over = std::max(last_fault_, start_) + kProgramLasts;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    const GroupPlan& group = *worker->group().plan;
    const absl::Duration after = group.calm ? absl::ZeroDuration() : 3 * Aftermath(group);
    if (worker->done() || timeline_.now() <= over + after) continue;
    judge_.Report("liveness", absl::StrCat("rank ", worker->rank(), " of ", group.name,
                                           " has not come to its end ",
                                           absl::FormatDuration(timeline_.now() - last_fault_),
                                           " after the last fault; it is ", worker->Where()));
  }
  timeline_.After(kLookEvery, [this] { Look(); });
}

void World::PlanFaults() {
  const bool any_calm = Pick(true) != nullptr;
  const bool any_rough = Pick(false) != nullptr;
  if (any_calm) {
    PlanAgain(plan_.calm.break_every, &calm_left_, &World::BreakCalm);
    PlanAgain(plan_.calm.cut_every, &calm_left_, &World::CutCalm);
    PlanAgain(plan_.calm.worker_pause_every, &calm_left_, &World::PauseCalm);
  }
  if (any_rough) {
    PlanAgain(plan_.rough.break_every, &rough_left_, &World::BreakRough);
    PlanAgain(plan_.rough.cut_every, &rough_left_, &World::CutRough);
    PlanAgain(plan_.rough.worker_pause_every, &rough_left_, &World::PauseRough);
    PlanAgain(plan_.rough.worker_crash_every, &rough_left_, &World::CrashRough);
  }
  PlanAgain(plan_.rough.stranger_every, &rough_left_, &World::Stranger);
  PlanAgain(plan_.coordinator.coordinator_crash_every, &coordinator_left_, &World::KillCoordinator);
  PlanAgain(plan_.coordinator.coordinator_pause_every, &coordinator_left_,
            &World::PauseCoordinator);
  PlanAgain(plan_.coordinator.drain_every, &coordinator_left_, &World::DrainCoordinator);
}

void World::PlanAgain(absl::Duration every, uint32_t* left, Action action) {
  if (every == absl::ZeroDuration()) return;
  timeline_.After(random_.Between(absl::ZeroDuration(), 2 * every), [this, every, left, action] {
    if (*left == 0 || Done() || timeline_.now() > start_ + kFaultsLast) return;
    (this->*action)();
    PlanAgain(every, left, action);
  });
}

Worker* World::Pick(bool calm) {
  std::vector<Worker*> choices;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    if (worker->group().plan->calm == calm) choices.push_back(worker.get());
  }
  if (choices.empty()) return nullptr;
  return choices[random_.Below(static_cast<uint32_t>(choices.size()))];
}

bool World::Quiet(absl::Duration since) const {
  return coordinator_.up() && !coordinator_.paused() &&
         timeline_.now() > coordinator_touched_ + since;
}

absl::Duration World::Aftermath(const GroupPlan& group) const {
  // A silent connection is noticed by keepalive; then members resume, or rounds and joins expire.
  return plan_.network.acceptor_keepalive + plan_.settings.timeouts.resume +
         2 * group.round_timeout + group.join_timeout;
}

void World::ExcuseRough(uint32_t group, absl::Duration duration, const std::string& why) {
  --rough_left_;
  last_fault_ = std::max(last_fault_, timeline_.now() + duration);
  judge_.Excuse(group, timeline_.now() + duration + Aftermath(plan_.groups[group]), why);
}

void World::ExcuseCoordinator(absl::Duration duration, const std::string& why) {
  --coordinator_left_;
  coordinator_touched_ = timeline_.now() + duration;
  log_.Add("! ", why);
  last_fault_ = std::max(last_fault_, coordinator_touched_);
  for (uint32_t group = 0; group < groups_.size(); ++group) {
    // Whose deadlines are as long as such faults may last.
    if (plan_.groups[group].calm) continue;
    judge_.Excuse(group, timeline_.now() + duration + Aftermath(plan_.groups[group]), why);
  }
}

void World::BreakCalm() {
  Worker* const worker = Pick(true);
  // One thing at a time, or it cannot be back in time.
  if (worker->touched() + kCalmGap > timeline_.now() || !Quiet(kCalmGap)) return;
  const std::vector<Line*> lines = network_.LinesOf(worker->machine());
  if (lines.empty()) return;
  --calm_left_;
  ++faults_.breaks;
  worker->Touch(timeline_.now());
  calm_break_ = last_fault_ = timeline_.now();
  log_.Add("! connection of ", worker->Where(), " breaks (calm)");
  const absl::Duration most = plan_.calm.break_notice_most;
  network_.Break(lines.back(), random_.Between(absl::ZeroDuration(), most),
                 random_.Between(absl::ZeroDuration(), most));
}

void World::CutCalm() {
  Worker* const worker = Pick(true);
  const absl::Duration duration = random_.Between(absl::Milliseconds(1), plan_.calm.cut_most);
  if (worker->touched() + duration > timeline_.now()) return;
  --calm_left_;
  worker->Touch(timeline_.now() + duration);
  log_.Add("! cut of ", worker->Where(), " for ", absl::FormatDuration(duration), " (calm)");
  Cut(worker, duration);
}

void World::PauseCalm() {
  Worker* const worker = Pick(true);
  const absl::Duration duration =
      random_.Between(absl::Milliseconds(1), plan_.calm.worker_pause_most);
  if (worker->touched() + duration > timeline_.now()) return;
  --calm_left_;
  worker->Touch(timeline_.now() + duration);
  log_.Add("! pause of ", worker->Where(), " for ", absl::FormatDuration(duration), " (calm)");
  Pause(worker, duration);
}

void World::Cut(Worker* worker, absl::Duration duration) {
  ++faults_.cuts;
  last_fault_ = std::max(last_fault_, timeline_.now() + duration);
  const uint32_t machine = worker->machine();
  const uint32_t ways = 1 + random_.Below(3);  // up, down, or both
  const absl::Time over = timeline_.now() + duration;
  const auto still = [this, over] { return timeline_.now() < over; };
  for (const Way way : kWays) {
    if ((ways >> static_cast<int>(way) & 1) == 0) continue;
    network_.Block(machine, way);
    timeline_.At(over, [this, machine, way] { network_.Unblock(machine, way); });
  }
  // Whichever direction is cut, answers to pings are missing on both sides.
  network_.KeepaliveOfCaller(machine, still);
  network_.KeepaliveOfAcceptor(machine, still);
}

void World::Pause(Worker* worker, absl::Duration duration) {
  ++faults_.worker_pauses;
  last_fault_ = std::max(last_fault_, timeline_.now() + duration);
  const absl::Time over = timeline_.now() + duration;
  worker->Pause();
  timeline_.At(over, [worker] { worker->Resume(); });
  network_.KeepaliveOfAcceptor(worker->machine(), [this, over] { return timeline_.now() < over; });
}

void World::BreakRough() {
  Worker* const worker = Pick(false);
  const std::vector<Line*> lines = network_.LinesOf(worker->machine());
  if (lines.empty()) return;
  ExcuseRough(worker->group().index, absl::ZeroDuration(),
              absl::StrCat("connection of ", worker->Where(), " breaks"));
  ++faults_.breaks;
  Line* const line = lines[random_.Below(static_cast<uint32_t>(lines.size()))];
  absl::Duration notice[2];
  const bool half_open = random_.Chance(plan_.rough.half_open_chance);
  const uint32_t blind = random_.Below(2);
  for (uint32_t side = 0; side < 2; ++side) {
    notice[side] = random_.Between(absl::ZeroDuration(), plan_.rough.break_notice_most);
    if (!half_open || side != blind) continue;
    ++faults_.half_open;
    notice[side] = side == 0 ? plan_.network.caller_keepalive : plan_.network.acceptor_keepalive;
  }
  network_.Break(line, notice[0], notice[1]);
}

void World::CutRough() {
  Worker* const worker = Pick(false);
  const absl::Duration duration = random_.Between(absl::Milliseconds(1), plan_.rough.cut_most);
  ExcuseRough(worker->group().index, duration,
              absl::StrCat("cut of ", worker->Where(), " for ", absl::FormatDuration(duration)));
  Cut(worker, duration);
}

void World::PauseRough() {
  Worker* const worker = Pick(false);
  if (worker->paused()) return;
  const absl::Duration duration =
      random_.Between(absl::Milliseconds(1), plan_.rough.worker_pause_most);
  ExcuseRough(worker->group().index, duration,
              absl::StrCat("pause of ", worker->Where(), " for ", absl::FormatDuration(duration)));
  Pause(worker, duration);
}

void World::CrashRough() {
  Worker* const worker = Pick(false);
  if (!worker->running()) return;
  const absl::Duration away = random_.Between(absl::ZeroDuration(), plan_.rough.worker_return_most);
  const bool vanishes = random_.Chance(plan_.rough.machine_vanishes_chance);
  const bool zombie = random_.Chance(plan_.rough.zombie_chance);
  const bool returns = zombie || !random_.Chance(plan_.rough.worker_never_returns_chance);
  // One that does not come back, or two that claim one rank, are a reason for ever.
  ExcuseRough(worker->group().index, returns && !zombie ? away : absl::Hours(24),
              absl::StrCat(worker->Where(), zombie     ? " goes on, and has a successor"
                                            : vanishes ? " vanishes"
                                                       : " is killed"));
  if (!returns || zombie) last_fault_ = timeline_.now() + away;
  if (zombie) {
    ++faults_.zombies;
    worker->Disown();
  } else {
    ++faults_.worker_crashes;
    worker->Crash(vanishes ? plan_.network.acceptor_keepalive
                           : random_.Between(absl::ZeroDuration(), absl::Milliseconds(5)));
  }
  if (returns) {
    timeline_.After(away, [worker] { worker->Start(); });
  } else {
    worker->GiveUp();
  }
}

void World::Stranger() {
  const uint32_t index = random_.Below(static_cast<uint32_t>(groups_.size()));
  const GroupPlan& group = plan_.groups[index];
  const StrangerCaller::Kind kind =
      group.calm ? random_.Pick(StrangerCaller::kHarmless) : random_.Pick(StrangerCaller::kAny);
  if (group.calm) {
    --rough_left_;
  } else {
    ExcuseRough(index, absl::ZeroDuration(), "a stranger comes");
  }
  ++faults_.strangers;
  // From a machine of its own.
  const uint32_t machine = 1'000'000 + static_cast<uint32_t>(strangers_.size());
  strangers_.push_back(std::make_unique<StrangerCaller>(&network_, machine, kind, group.name,
                                                        group.size, Random(random_.Next())));
}

void World::KillCoordinator() {
  if (!coordinator_.up() || (plan_.coordinator_calm && !Quiet(kCoordinatorGap))) return;
  const absl::Duration down =
      random_.Between(absl::ZeroDuration(), plan_.coordinator.coordinator_down_most);
  ExcuseCoordinator(down, absl::StrCat("coordinator is killed, for ", absl::FormatDuration(down)));
  ++faults_.coordinator_kills;
  const bool draining = coordinator_.draining();  // then it is started again after that
  coordinator_.Kill(random_.Between(absl::ZeroDuration(), absl::Milliseconds(15)));
  if (!draining) timeline_.After(down, [this] { coordinator_.Start(); });
}

void World::PauseCoordinator() {
  if (!coordinator_.up() || coordinator_.paused()) return;
  // A member that is away when the coordinator stops is not expected back in time.
  if (plan_.coordinator_calm &&
      (!Quiet(kCoordinatorGap) || calm_break_ + kCalmGap > timeline_.now())) {
    return;
  }
  const absl::Duration duration =
      random_.Between(absl::Milliseconds(1), plan_.coordinator.coordinator_pause_most);
  ExcuseCoordinator(duration,
                    absl::StrCat("coordinator pauses for ", absl::FormatDuration(duration)));
  ++faults_.coordinator_pauses;
  coordinator_.Pause();
  const absl::Time over = timeline_.now() + duration;
  timeline_.At(over, [this] { coordinator_.Resume(); });
  for (const std::unique_ptr<Worker>& worker : workers_) {
    network_.KeepaliveOfCaller(worker->machine(), [this, over] { return timeline_.now() < over; });
  }
}

void World::DrainCoordinator() {
  if (!coordinator_.up() || coordinator_.paused() || coordinator_.draining()) return;
  if (plan_.coordinator_calm && !Quiet(kCoordinatorGap)) return;
  const absl::Duration grace = absl::Seconds(2);
  const absl::Duration down =
      random_.Between(absl::ZeroDuration(), plan_.coordinator.coordinator_down_most);
  ExcuseCoordinator(grace + absl::Seconds(1) + down, "coordinator drains");
  ++faults_.drains;
  coordinator_.Drain(grace,
                     [this, down] { timeline_.After(down, [this] { coordinator_.Start(); }); });
}

RunResult RunSeed(uint64_t seed, uint64_t rounds, Log::Level level, Mutation mutation) {
  World world(MakePlan(seed, rounds), level, mutation);
  return world.Run();
}

}  // namespace syncnorm::sim
