#include "tests/e2e/trainer.h"

#include <syncnorm/failure.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

namespace syncnorm::e2e {
namespace {

// Members are apart by at most the steps that are under way when their membership fails: with a
// window of all of a step's rounds, two.
constexpr uint64_t kKeptSteps = 4;
// Between two attempts to join: the coordinator may be starting, or yet to see that the old
// connection is gone.
constexpr absl::Duration kRetry = absl::Milliseconds(20);

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

std::string Text(const absl::Status& status) {
  return status.ToString(absl::StatusToStringMode::kWithNoExtraData);
}

}  // namespace

Trainer::Trainer(TrainerOptions options)
    : options_(std::move(options)), history_(options_.history), clock_(MonotonicClock()) {}

int Trainer::Run() {
  history_.Worker(options_.group, options_.workload);
  absl::Time give_up = clock_.Now();  // the first join gets one attempt: Connect retries by itself
  for (;;) {
    absl::Status status = Connect();
    if (status.ok()) status = RunSteps();
    if (status.ok()) return Finish();
    const uint64_t epoch = group_ == nullptr ? 0 : group_->epoch();
    history_.Ended(epoch, status);
    Say("failed " + Text(status));
    if (group_ != nullptr) give_up = clock_.Now() + options_.rejoin;
    calls_.clear();
    group_.reset();
    if (clock_.Now() >= give_up) return 1;
    absl::SleepFor(kRetry);
  }
}

absl::Status Trainer::Connect() {
  absl::StatusOr<std::unique_ptr<Group>> group = Group::Connect(options_.group);
  if (!group.ok()) return group.status();
  group_ = *std::move(group);
  failed_round_ = 0;
  epoch_ = group_->epoch();
  met_ = !group_->handed_over().empty();
  history_.Joined(*group_);
  if (met_) {
    if (!absl::SimpleAtoi(group_->handed_over(), &step_)) {
      return absl::InternalError("handed over: " + group_->handed_over());
    }
    knows_step_ = true;
  } else if (options_.rejoin > absl::ZeroDuration()) {
    if (absl::Status status = Agree(); !status.ok()) return status;
  }
  Say(absl::StrCat("joined epoch ", group_->epoch(), " step ", step_));
  return absl::OkStatus();
}

absl::Status Trainer::Agree() {
  // Each in a column of its own: step + 1, or 0 of a worker that is new and goes where the others
  // are.
  Moments mine = Moments::Sums(1, group_->world_size(), Precision::kF64);
  mine.count = 1;
  mine.values[group_->rank()] = knows_step_ ? static_cast<double>(step_ + 1) : 0;
  absl::StatusOr<Moments> all = group_->ReduceNow({"step", Direction::kNone, 0, {}}, mine);
  if (!all.ok()) return all.status();
  std::optional<double> least;
  for (const double value : all->values) {
    if (value > 0) least = least.has_value() ? std::min(*least, value) : value;
  }
  if (least.has_value()) step_ = static_cast<uint64_t>(*least) - 1;
  knows_step_ = true;
  return absl::OkStatus();
}

absl::Status Trainer::Meet() {
  if (absl::Status status = CollectAll(); !status.ok()) return status;
  const absl::StatusOr<Boundary> boundary =
      group_->AtBoundary([this]() -> absl::StatusOr<std::string> { return std::to_string(step_); });
  if (!boundary.ok()) return Survive(boundary.status());
  NoticeEpoch();
  return absl::OkStatus();
}

void Trainer::NoticeEpoch() {
  if (std::exchange(epoch_, group_->epoch()) == group_->epoch()) return;
  history_.Epoch(*group_);
  Say(absl::StrCat("epoch ", epoch_, " members ", absl::StrJoin(group_->members(), ",")));
}

absl::Status Trainer::RunSteps() {
  for (; step_ < options_.steps; ++step_) {
    if (options_.progress) Say(absl::StrCat("step ", step_));
    if (options_.hang_at == step_) {
      for (;;) absl::SleepFor(absl::Hours(1));
    }
    if (options_.group.on_loss == OnLoss::kShrink && !std::exchange(met_, false)) {
      if (absl::Status status = Meet(); !status.ok()) return status;
    }
    if (absl::Status status = RunStep(); !status.ok()) return status;
    knows_step_ = true;
    if (step_ > kKeptSteps) Forget(step_ - kKeptSteps);
  }
  if (absl::Status status = CollectAll(); !status.ok()) return status;
  if (options_.group.on_loss != OnLoss::kFinish) return absl::OkStatus();
  return group_->Finish(options_.group.connect_timeout);
}

absl::Status Trainer::RunStep() {
  std::vector<Operation> program;
  for (int layer = 0; layer < options_.layers; ++layer) {
    program.push_back({layer, Direction::kForward, step_});
  }
  for (int layer = options_.layers - 1; layer >= 0; --layer) {
    program.push_back({layer, Direction::kBackward, step_});
  }
  if (options_.swap_at.has_value() && step_ >= *options_.swap_at) {
    std::swap(program[0], program[1]);
  }
  if (options_.skip_at.has_value() && step_ >= *options_.skip_at) program.erase(program.begin());
  for (const Operation& operation : program) {
    if (absl::Status status = Perform(operation); !status.ok()) return status;
    if (options_.compute > absl::ZeroDuration()) absl::SleepFor(options_.compute);
  }
  return absl::OkStatus();
}

absl::Status Trainer::Perform(const Operation& operation) {
  Workload workload = options_.workload;
  if (options_.widen_at.has_value() && operation.step >= *options_.widen_at) {
    workload.channels *= 2;
  }
  const Moments moments = MomentsOf(workload, group_->rank(), operation);
  const uint64_t id = history_.Call(group_->epoch(), operation, moments);
  if (options_.window == 0) {
    const absl::Time waited = clock_.Now();
    return Take(operation, id, waited, group_->ReduceNow(KeyOf(operation), moments));
  }
  calls_.push_back({operation, id, group_->Reduce(KeyOf(operation), moments)});
  while (calls_.size() > static_cast<size_t>(options_.window)) {
    if (absl::Status status = Collect(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Trainer::CollectAll() {
  while (!calls_.empty()) {
    if (absl::Status status = Collect(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Trainer::Collect() {
  Call call = std::move(calls_.front());
  calls_.pop_front();
  const absl::Time waited = clock_.Now();
  absl::Status status = Take(call.operation, call.id, waited, call.future.Wait());
  if (status.ok()) return status;
  // This step is run again; so are those of the calls behind, all of which have ended with it.
  step_ = std::min(step_, call.operation.step);
  for (Call& behind : calls_) {
    const absl::Time now = clock_.Now();
    history_.Return(behind.id, group_->epoch(), now, behind.future.Wait());
  }
  calls_.clear();
  return status;
}

absl::Status Trainer::Take(const Operation& operation, uint64_t id, absl::Time waited,
                           const absl::StatusOr<Moments>& result) {
  history_.Return(id, group_->epoch(), waited, result);
  if (result.ok()) {
    ++rounds_;
    Remember(operation, Digest(*result));
    return absl::OkStatus();
  }
  return Survive(result.status());
}

absl::Status Trainer::Survive(const absl::Status& failure) {
  const bool goes_on = options_.go_on || options_.rejoin > absl::ZeroDuration();
  if (!goes_on || MembershipIsOver(failure)) return failure;
  Say("failed " + Text(failure));
  return absl::OkStatus();
}

bool Trainer::MembershipIsOver(const absl::Status& failure) {
  const std::optional<Failure> told = FailureOf(failure);
  // A failed round's own failure comes once; a membership's comes with every call, and may name
  // the round by which it ended.
  if (!told.has_value() || told->key.round == 0) return true;
  return std::exchange(failed_round_, told->key.round) == told->key.round;
}

int Trainer::Finish() {
  const uint64_t epoch = group_->epoch();
  const absl::Status left = group_->Leave();
  if (left.ok()) {
    history_.Left(epoch);
    Say("left");
  } else {
    history_.Ended(epoch, left);
    Say("failed to leave " + Text(left));
  }
  group_.reset();
  Forget(options_.steps);
  char line[64];
  std::snprintf(line, sizeof(line), "digest %016" PRIx64 " rounds %" PRIu64, digest_, rounds_);
  Say(line);
  return left.ok() ? 0 : 1;
}

void Trainer::Remember(const Operation& operation, uint64_t digest) {
  results_[{operation.step, operation.layer, static_cast<int>(operation.direction)}] = digest;
}

void Trainer::Forget(uint64_t before) {
  while (!results_.empty() && std::get<0>(results_.begin()->first) < before) {
    const auto& [place, digest] = *results_.begin();
    const auto& [step, layer, direction] = place;
    digest_ += Mix(digest + Mix(step + Mix(static_cast<uint64_t>(layer) * 4 + direction)));
    results_.erase(results_.begin());
  }
}

}  // namespace syncnorm::e2e
