#include "tests/sim/worker.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/process.h"

namespace syncnorm::sim {

TrainedGroup::TrainedGroup(const GroupPlan* group, uint32_t number)
    : plan(group),
      index(number),
      program(group->seed, group->empty_chance, group->not_finite_chance),
      progress(group->size) {}

uint64_t TrainedGroup::StartOf(uint64_t run) {
  return starts.try_emplace(run, *std::min_element(progress.begin(), progress.end())).first->second;
}

Worker::Worker(const Surroundings& around, uint32_t rank, uint32_t machine, uint64_t seed)
    : around_(around), rank_(rank), machine_(machine), random_(seed) {}

Worker::~Worker() = default;

void Worker::Start() {
  const auto life = static_cast<uint32_t>(lives_.size());
  const std::string& host = around_.group->plan->hosts[rank_];
  lives_.push_back(std::make_unique<Process>(around_, Who{around_.group->index, rank_, life}, host,
                                             machine_, random_.Next()));
  current_ = lives_.back().get();
  around_.log->Add(current_->Where(), " starts on ", host);
  current_->Start();
}

void Worker::Crash(absl::Duration notice) {
  current_->Die(notice);
  current_ = nullptr;
}

void Worker::Disown() {
  current_->Disown();
  current_ = nullptr;
}

void Worker::GiveUp() {
  gave_up_ = true;
  around_.group->reduced = true;
  if (around_.group->plan->on_loss != OnLoss::kShrink) around_.group->over = true;
}

void Worker::Pause() {
  if (current_ != nullptr) current_->Pause();
}

void Worker::Resume() {
  for (const std::unique_ptr<Process>& life : lives_) life->Resume();
}

bool Worker::done() const {
  return gave_up_ || (current_ != nullptr && current_->phase() == Process::Phase::kOver);
}

bool Worker::running() const {
  return current_ != nullptr && current_->phase() != Process::Phase::kOver;
}

bool Worker::paused() const { return current_ != nullptr && current_->paused(); }

void Worker::Look() {
  for (const std::unique_ptr<Process>& life : lives_) life->Look();
}

uint64_t Worker::state() const { return current_ == nullptr ? 0 : current_->state(); }

std::string Worker::Where() const {
  return current_ != nullptr ? current_->Where()
                             : absl::StrCat("g", around_.group->index, "/", rank_, " (no process)");
}

}  // namespace syncnorm::sim
