#include "tests/server/core_worker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace syncnorm::server {

void CoreWorker::Join(CoreWorld* world) {
  wire::Join join = std::move(join_);
  if (heard_) join.ticket += 1000;
  *this = CoreWorker(join);
  world_ = world;
  stream_ = world->Join(join_);
}

void CoreWorker::ResumeSilently(CoreWorld* world) {
  world_ = world;
  joined_ = false;
  wire::Join join = join_;
  known_.kept = 0;
  for (const auto& [round, bytes] : answers_) known_.kept += round > settled_ ? 1 : 0;
  join.resume = known_;
  stream_ = world->Join(join);
}

void CoreWorker::Restore() {
  for (const auto& [round, bytes] : answers_) {
    if (round > settled_ && open()) world_->Restore(stream_, bytes);
  }
}

void CoreWorker::Resume(CoreWorld* world) {
  ResumeSilently(world);
  Restore();
}

void CoreWorker::Contribute(bool boundary) {
  Sent sent;
  sent.round = next_;
  sent.layer = absl::StrCat("bn", next_ % 3);
  sent.step = next_;
  sent.value = 1.0 / static_cast<double>(3 + rank()) + static_cast<double>(next_);
  sent.boundary = boundary;
  ContributeAs(Make(sent, known_.epoch));
}

void CoreWorker::ContributeAs(const wire::Contribution& contribution) {
  unanswered_[contribution.key.round] = contribution;
  next_ = contribution.key.round + 1;
  wire::Contribution sent = contribution;
  sent.answered = known_.answered;
  world_->ContributeAs(stream_, std::move(sent));
}

void CoreWorker::Finish() {
  known_.finished = true;
  world_->Finish(stream_);
}

void CoreWorker::Leave() {
  world_->Leave(stream_);
  known_ = {};
}

void CoreWorker::Answered(uint64_t round, const std::string& bytes) {
  EXPECT_EQ(unanswered_.erase(round), 1u)
      << "rank " << rank() << ": an answer to round " << round << ", which it has, or never sent";
  answers_[round] = bytes;
  known_.answered = std::max(known_.answered, round);
}

void CoreWorker::Remember(const Got& got) {
  using Kind = wire::CoordinatorMessage::Kind;
  switch (got.message.kind) {
    case Kind::kJoined: {
      const wire::Joined& joined = got.message.joined;
      joined_ = heard_ = true;
      known_.tickets = joined.tickets;
      known_.run_id = joined.run_id;
      known_.coordinator_id = joined.coordinator_id;
      known_.first_round = joined.epoch_first_round;
      known_.epoch = joined.epoch;
      known_.members = joined.members;
      const bool takes_part =
          std::find(joined.members.begin(), joined.members.end(), rank()) != joined.members.end();
      // All have finished since.
      if (takes_part) known_.finished = false;
      if (unanswered_.empty() && takes_part) {
        next_ = joined.first_round;
        known_.answered = next_ - 1;
      }
      for (const auto& [round, contribution] : std::map(unanswered_)) {
        if (open()) world_->ContributeAs(stream_, contribution);
      }
      break;
    }
    case Kind::kResult:
      settled_ = std::max(settled_, got.message.result.settled);
      Answered(got.message.result.key.round, got.bytes);
      break;
    case Kind::kFailure:
      if (got.message.failure.key.round != 0) {
        Answered(got.message.failure.key.round, got.bytes);
        break;
      }
      failures_.push_back(got.message.failure);
      joined_ = false;
      // Its run goes on in the coordinator's next life.
      if (got.message.failure.code != absl::StatusCode::kUnavailable) known_ = {};
      break;
    case Kind::kEpochChanged: {
      const wire::EpochChanged& changed = got.message.epoch_changed;
      changes_.push_back(changed);
      known_.epoch = changed.epoch;
      known_.members = changed.members;
      known_.first_round = changed.first_round;
      if (known_.finished && changed.regrouped) {
        known_.finished = false;
        next_ = changed.first_round;
        known_.answered = next_ - 1;
      }
      break;
    }
    case Kind::kHandover:
      handed_over_ += got.message.handover.chunk;
      break;
    case Kind::kDraining:
      break;
  }
}

std::vector<CoreWorker::Got> CoreWorker::Take() {
  std::vector<Got> all;
  // What it sends again may be answered at once.
  while (stream_ != 0) {
    std::vector<Got> got = world_->Take(stream_);
    if (got.empty()) break;
    for (const Got& one : got) Remember(one);
    for (Got& one : got) all.push_back(std::move(one));
  }
  return all;
}

Failure CoreWorker::TakeFailure() {
  const std::vector<Got> got = Take();
  EXPECT_EQ(got.size(), 1u);
  if (got.empty()) return {};
  EXPECT_EQ(got.back().message.kind, wire::CoordinatorMessage::Kind::kFailure);
  EXPECT_EQ(got.back().message.failure.key.round, 0u);
  return got.back().message.failure;
}

}  // namespace syncnorm::server
