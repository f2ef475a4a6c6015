#include "server/group.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "server/names.h"

namespace syncnorm::server {
namespace {

constexpr char kGoingDown[] = "the coordinator is going down";

}  // namespace

Group::Group(uint64_t id, const wire::Join& first, absl::Time now, const Limits& limits,
             const Timeouts& timeouts, wire::Codec* codec)
    : id_(id), limits_(limits), codec_(codec), members_(first, now, timeouts) {}

void Group::Start(uint64_t epoch, wire::Joined joined, Output* output) {
  SYNCNORM_CHECK(state_ == State::kForming);
  members_.Establish(epoch);
  state_ = State::kRunning;
  rounds_.emplace(members_, limits_, codec_);
  joined.epoch = epoch;
  joined.world_size = members_.size();
  joined.hosts = members_.hosts();
  joined.round_timeout = members_.round_timeout();
  SendToAll(std::make_shared<const std::string>(codec_->Encode(joined)), /*answer=*/true,
            /*close=*/false, output);
  output->notes.push_back(
      {Note::Severity::kInfo, Note::Source::kGroup,
       absl::StrCat(members_.Name(), ": started with ", members_.size(), " members")});
}

void Group::EndJoining(const Failure& failure, Output* output) {
  SYNCNORM_CHECK(state_ == State::kForming);
  state_ = State::kClosed;
  SendToAll(Encode(failure), /*answer=*/true, /*close=*/true, output);
  output->notes.push_back({Note::Severity::kWarning, Note::Source::kGroup, failure.text});
}

void Group::Contribute(absl::Time now, uint32_t rank, wire::Contribution* contribution,
                       Output* output) {
  SYNCNORM_CHECK(rounds_.has_value());
  members_.Heard(rank, now);
  const RoundKey& key = contribution->key;  // what is taken out is the values
  const auto answer = [&](const Failure& failure) {
    output->replies.push_back({members_.member(rank).stream, Encode(failure), /*answer=*/true});
  };
  if (key.epoch != members_.epoch()) {
    answer(members_.Fail(absl::StatusCode::kFailedPrecondition, key, {rank},
                         absl::StrCat(members_.Name(), ": ", members_.Who(rank),
                                      " sent a contribution of epoch ", key.epoch)));
    return;
  }
  if (state_ == State::kLeaving) {
    const std::vector<uint32_t> left = members_.In(Member::State::kLeft);
    Close(now, absl::StatusCode::kAborted, left,
          absl::StrCat(Ranks(left), " left before ", Describe(key)), output);
  }
  if (state_ == State::kRunning) {
    std::optional<EndOfEpoch> end = rounds_->Contribute(now, rank, contribution, &answers_);
    Send(output);
    if (!end.has_value()) return;
    Close(now, end->code, std::move(end->ranks), end->what, output);
  }
  Failure failure = *closed_;
  failure.key = key;
  answer(failure);
}

void Group::Leave(absl::Time now, uint32_t rank, const std::string& reason, Output* output) {
  const StreamId stream = members_.member(rank).stream;
  members_.Gone(rank, Member::State::kLeft);
  output->replies.push_back({stream, nullptr, /*answer=*/true, /*close=*/true});
  if (state_ == State::kRunning || state_ == State::kLeaving) {
    state_ = State::kLeaving;
    if (rounds_->Waits(rank)) {
      Close(now, absl::StatusCode::kAborted, {rank},
            absl::StrCat(members_.Who(rank), " left", reason.empty() ? "" : ": ", reason, "; ",
                         rounds_->LastOf(rank)),
            output);
    }
  }
}

void Group::Lose(absl::Time now, uint32_t rank, absl::string_view how, Output* output) {
  members_.Gone(rank, Member::State::kLost);
  const std::string what = absl::StrCat(members_.Who(rank), " ", how);
  if (state_ == State::kForming) {
    output->notes.push_back({Note::Severity::kWarning, Note::Source::kGroup,
                             absl::StrCat(members_.Name(), ": ", what, " while joining")});
  }
  if (state_ == State::kRunning || state_ == State::kLeaving) {
    Close(now, absl::StatusCode::kAborted, {rank}, absl::StrCat(what, "; ", rounds_->LastOf(rank)),
          output);
  }
}

void Group::Tick(absl::Time now, Output* output) {
  if (state_ == State::kForming && now >= members_.join_deadline()) {
    EndJoining(members_.JoinDeadline(), output);
  } else if (state_ == State::kRunning || state_ == State::kLeaving) {
    rounds_->Expire(now, &answers_);
    rounds_->Warn(now);
    Send(output);
  }
}

void Group::Drain() {
  if (rounds_.has_value()) rounds_->Drain();
}

void Group::Shut(absl::Time now, Output* output) {
  if (state_ == State::kForming) {
    EndJoining(members_.Fail(absl::StatusCode::kUnavailable, RoundKey(), {},
                             absl::StrCat(members_.Name(), ": ", kGoingDown)),
               output);
    return;
  }
  if (state_ != State::kClosed) Close(now, absl::StatusCode::kUnavailable, {}, kGoingDown, output);
  SendToAll(nullptr, /*answer=*/false, /*close=*/true, output);
}

void Group::Close(absl::Time now, absl::StatusCode code, std::vector<uint32_t> ranks,
                  const std::string& what, Output* output) {
  state_ = State::kClosed;
  const std::string why = absl::StrCat(what, "; epoch ", members_.epoch(), " is closed");
  rounds_->FailOpen(now, code, ranks, why, &answers_);
  rounds_->TakeFailures();  // one note, below, is enough
  Send(output);
  closed_ = members_.Fail(code, RoundKey{.epoch = members_.epoch()}, std::move(ranks),
                          absl::StrCat(members_.Name(), ": ", why));
  SendToAll(Encode(*closed_), /*answer=*/false, /*close=*/false, output);
  output->notes.push_back({Note::Severity::kWarning, Note::Source::kGroup, closed_->text});
  if (incident_.empty()) incident_ = closed_->text;
}

bool Group::AtRest() const {
  if (empty() || state_ == State::kLeaving) return false;
  return !rounds_.has_value() || rounds_->open() == 0;
}

absl::Time Group::NextDeadline() const {
  switch (state_) {
    case State::kForming:
      return members_.join_deadline();
    case State::kRunning:
    case State::kLeaving:
      return rounds_->NextDeadline();
    case State::kClosed:
      break;
  }
  return absl::InfiniteFuture();
}

std::vector<StreamId> Group::streams() const {
  std::vector<StreamId> streams;
  for (const uint32_t rank : members_.In(Member::State::kHere)) {
    streams.push_back(members_.member(rank).stream);
  }
  return streams;
}

void Group::Send(Output* output) {
  for (const Answer& answer : answers_) {
    for (const uint32_t rank : answer.ranks) {
      const Member& member = members_.member(rank);
      if (member.state != Member::State::kHere) continue;
      output->replies.push_back({member.stream, answer.bytes, /*answer=*/true});
    }
  }
  answers_.clear();
  for (std::string& text : rounds_->TakeRemarks()) {
    output->notes.push_back({Note::Severity::kWarning, Note::Source::kWait, std::move(text)});
  }
  for (std::string& text : rounds_->TakeFailures()) {
    if (incident_.empty()) incident_ = text;
    output->notes.push_back({Note::Severity::kWarning, Note::Source::kGroup, std::move(text)});
  }
}

void Group::SendToAll(const Bytes& bytes, bool answer, bool close, Output* output) {
  for (const uint32_t rank : members_.In(Member::State::kHere)) {
    output->replies.push_back({members_.member(rank).stream, bytes, answer, close});
    if (close) members_.Gone(rank, Member::State::kLost);
  }
}

Bytes Group::Encode(const Failure& failure) {
  return std::make_shared<const std::string>(codec_->Encode(failure));
}

}  // namespace syncnorm::server
