#include "server/group.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "server/names.h"

namespace syncnorm::server {
namespace {

// An earlier life may have issued epochs of which nobody who resumes has heard: those of the time
// that a member may be away.  They come one a lost or finished member, of at most 1,024 groups of
// 1,024.
constexpr uint64_t kUnheardEpochs = 1 << 20;
// Two lives of the coordinator may both find the run without others of its members, and are not to
// give one number to two epochs: each goes on from a place of its own.  Of 2^40 places two are
// within 2^20 of one another by a chance of 2^-19; and 2^22 restarts fit 62 bits.
constexpr uint64_t kEpochPlaces = uint64_t{1} << 40;

constexpr char kGoingDown[] = "the coordinator is going down";

// A number that no other life of the coordinator makes of this one, nor this one of another, by
// chance of 2^-64.
uint64_t Mix(uint64_t coordinator_id, uint64_t number) {
  uint64_t x = coordinator_id + number * 0x9e3779b97f4a7c15;  // splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return (x ^ (x >> 31)) | 1;  // never 0
}

}  // namespace

Group::Group(uint64_t id, const wire::Join& first, absl::Time now, Shared* shared)
    : id_(id),
      shared_(shared),
      run_id_(first.resume.has_value() ? first.resume->run_id
                                       : Mix(shared->coordinator_id, ++shared->runs)),
      members_(first, now, shared->timeouts),
      timeline_(now) {}

Group::Welcome Group::Join(absl::Time now, StreamId stream, const wire::Join& join,
                           Output* output) {
  using Kind = Membership::Joining::Kind;
  const Membership::Joining joining = members_.Join(now, stream, join);
  for (const StreamId fenced : joining.fenced) TurnAway(fenced, joining.failure, output);
  if (joining.replaced != 0) {
    TurnAway(joining.replaced, joining.again ? ComeAgain(join) : ReplacedBy(join), output);
  }
  switch (joining.kind) {
    case Kind::kRefused:
      TurnAway(stream, joining.failure, output);
      Note(joining.failure, output);
      return Welcome::kOut;
    case Kind::kEnded:
      EndJoining(joining.failure, output);  // says so in the log, once for all
      // One that starts anew where others resume is not to blame: it has a new group.
      if (members_.resumed_run() != 0 && !join.resume.has_value()) return Welcome::kMakeNew;
      TurnAway(stream, joining.failure, output);
      return Welcome::kOut;
    case Kind::kReplaces:
      if (const Member& old = members_.member(join.rank); old.state == Member::State::kHere) {
        TurnAway(old.stream, ReplacedBy(join), output);
      }
      LoseForGood(now, join.rank,
                  absl::StrCat("was replaced by ", Worker(join.rank, join.host, join.pid)), output);
      if (!Current()) return Welcome::kMakeNew;
      return Wait(now, stream, join, output);
    case Kind::kVacant:
      return Wait(now, stream, join, output);
    case Kind::kReturned:
      Note(Note::Severity::kInfo,
           absl::StrCat(members_.Name(), ": ", members_.Who(join.rank), " is back"), output,
           {join.rank});
      // Its Finish got lost with its stream.  If it had been heard, and all had finished since, the
      // member would not know of that epoch.
      if (join.resume.has_value() && join.resume->finished && join.resume->epoch >= regrouped_ &&
          members_.on_loss() != OnLoss::kFail && state_ == State::kRunning) {
        Finish(now, join.rank, output).IgnoreError();  // it has that policy
      }
      if (members_.member(join.rank).kept == 0) {
        SendJoined(join.rank, output);
      } else {
        output->replies.push_back({stream, nullptr, /*answer=*/true});
      }
      return Welcome::kIn;
    case Kind::kSeated:
      // The answers that it brings along are to be read before it is answered.
      if (members_.member(join.rank).kept > 0) {
        output->replies.push_back({stream, nullptr, /*answer=*/true});
      }
      if (members_.full()) Start(output);
      return Welcome::kIn;
  }
  return Welcome::kOut;
}

absl::Status Group::Restore(uint32_t rank, const std::string& bytes, Output* output) {
  if (!members_.Brought(rank))
    return absl::InvalidArgumentError("an answer that was not announced");
  const auto answered = [&] {
    output->replies.push_back({members_.member(rank).stream, nullptr, /*answer=*/true});
  };
  if (state_ == State::kClosed) {
    answered();
    return absl::OkStatus();
  }
  if (members_.established()) {
    // It came back to the coordinator that had answered it.
    if (members_.member(rank).kept == 0) {
      SendJoined(rank, output);
    } else {
      answered();
    }
    return absl::OkStatus();
  }
  wire::CoordinatorMessage message;
  if (absl::Status s = shared_->codec.Decode(bytes, &message); !s.ok()) return s;
  KeptAnswer answer;
  if (message.kind == wire::CoordinatorMessage::Kind::kResult) {
    answer.key = std::move(message.result.key);
  } else if (message.kind == wire::CoordinatorMessage::Kind::kFailure) {
    answer.key = std::move(message.failure.key);
    answer.failed = true;
  }
  const uint64_t round = answer.key.round;
  if (round == 0) return absl::InvalidArgumentError("an answer that is not of a round");
  if (round > members_.member(rank).answered) {
    return absl::InvalidArgumentError(absl::StrCat(
        "an answer to round ", round, ", where it has said that the last one it has is to ",
        members_.member(rank).answered));
  }
  answer.bytes = std::make_shared<const std::string>(bytes);
  const auto [it, added] = brought_.emplace(round, std::move(answer));
  if (!added && *it->second.bytes != bytes) {
    EndJoining(
        members_.Fail(
            absl::StatusCode::kAborted, RoundKey{.epoch = members_.resumed_epoch()}, {rank},
            absl::StrCat(members_.Name(), " ", Describe(it->second.key), ": ", members_.Who(rank),
                         " got another answer than the members before it; the "
                         "run cannot be resumed")),
        output);
    return absl::OkStatus();
  }
  if (added) brought_bytes_ += bytes.size();
  if (brought_.size() > shared_->limits.open_rounds + shared_->limits.kept_rounds ||
      brought_bytes_ > shared_->limits.open_bytes) {
    EndJoining(members_.Fail(absl::StatusCode::kResourceExhausted, RoundKey(), {rank},
                             absl::StrCat(members_.Name(), ": resuming takes ", brought_.size(),
                                          " answers of ", brought_bytes_,
                                          " bytes, more than this coordinator keeps")),
               output);
    return absl::OkStatus();
  }
  if (members_.member(rank).kept > 0) answered();
  if (members_.full()) Start(output);
  return absl::OkStatus();
}

std::optional<std::vector<KeptAnswer>> Group::TakeBrought(Output* output) {
  uint64_t first = std::numeric_limits<uint64_t>::max(), last = 0;
  for (uint32_t rank = 0; rank < members_.size(); ++rank) {
    const Member& member = members_.member(rank);
    // One that has finished has all its answers, while the others settled later ones without it.
    if (member.takes_part) first = std::min(first, member.answered + 1);
    if (member.takes_part || member.finished) last = std::max(last, member.answered);
  }
  // One that brought its answers and has gone again is heard too.
  if (!brought_.empty()) last = std::max(last, brought_.rbegin()->first);
  std::vector<KeptAnswer> answers;
  for (uint64_t round = first; round <= last; ++round) {
    const auto it = brought_.find(round);
    if (it == brought_.end()) {
      EndJoining(
          members_.Fail(absl::StatusCode::kAborted, RoundKey{.epoch = members_.resumed_epoch()}, {},
                        absl::StrCat(members_.Name(), ": the answer to round ", round,
                                     " is lost: no member brought it along; the run "
                                     "cannot be resumed")),
          output);
      return std::nullopt;
    }
    answers.push_back(std::move(it->second));
  }
  brought_.clear();
  return answers;
}

void Group::Start(Output* output) {
  SYNCNORM_CHECK(state_ == State::kForming);
  const bool resumed = members_.resumed_run() != 0;
  bool changed = false;
  std::vector<KeptAnswer> answers;
  if (resumed) {
    changed = members_.Reconcile();
    std::optional<std::vector<KeptAnswer>> brought = TakeBrought(output);
    if (!brought.has_value()) return;
    answers = *std::move(brought);
  }
  const std::vector<uint64_t> answered = members_.answered();
  // With other members it is another epoch: what was said of the one before stays true.
  if (changed) {
    const uint64_t place = Mix(shared_->coordinator_id, 0) % kEpochPlaces;
    shared_->epochs = std::max(shared_->epochs, members_.resumed_epoch() + kUnheardEpochs + place);
    members_.Establish(++shared_->epochs,
                       answers.empty() ? *std::max_element(answered.begin(), answered.end()) + 1
                                       : answers.back().key.round + 1);
  } else {
    members_.Establish(resumed ? members_.resumed_epoch() : ++shared_->epochs,
                       members_.resumed_first_round());
  }
  // Whoever says a Finish from before that says it again because it has not heard.
  if (members_.regrouped()) regrouped_ = members_.resumed_epoch();
  state_ = State::kRunning;
  rounds_.emplace(members_, shared_->limits, &shared_->codec, answered, std::move(answers));
  for (const uint32_t rank : members_.In(Member::State::kHere)) SendJoined(rank, output);
  Note(Note::Severity::kInfo,
       absl::StrCat(members_.Name(), resumed ? ": resumed with " : ": started with ",
                    members_.here(), " members",
                    resumed ? absl::StrCat(", next is round ", rounds_->next()) : ""),
       output);
  if (members_.participants().empty()) Regroup(output);
}

void Group::SendJoined(uint32_t rank, Output* output) {
  wire::Joined joined;
  const Limits& limits = shared_->limits;
  joined.limits = {limits.values, limits.layer_name_bytes, limits.kept_rounds,
                   MaxMessageBytes(limits)};
  joined.coordinator_id = shared_->coordinator_id;
  joined.run_id = run_id_;
  joined.epoch = members_.epoch();
  joined.world_size = members_.size();
  joined.hosts = members_.hosts();
  joined.round_timeout = members_.round_timeout();
  joined.members = members_.participants();
  joined.first_round = rounds_->last(rank) + 1;
  joined.epoch_first_round = members_.first_round();
  joined.tickets = members_.tickets();
  members_.SetJoined(rank);
  output->replies.push_back({members_.member(rank).stream,
                             std::make_shared<const std::string>(shared_->codec.Encode(joined)),
                             /*answer=*/true});
}

void Group::EndJoining(const Failure& failure, Output* output) {
  SYNCNORM_CHECK(state_ == State::kForming);
  state_ = State::kClosed;
  closed_ = failure;
  TurnAwayWaiting(failure, output);
  SendToAll(Encode(failure), /*answer=*/true, /*close=*/true, output);
  Note(failure, output);
}

Group::Welcome Group::Wait(absl::Time now, StreamId stream, const wire::Join& join,
                           Output* output) {
  const auto held = waiting_.find(join.rank);
  if (held != waiting_.end()) {
    const Member& other = held->second.member;
    if (other.incarnation != join.incarnation) {
      TurnAway(
          stream,
          members_.Fail(
              absl::StatusCode::kAlreadyExists, RoundKey{.epoch = members_.epoch()}, {join.rank},
              absl::StrCat(members_.Name(), ": ", Worker(join.rank, join.host, join.pid),
                           " claims a rank that ", Worker(join.rank, other.host, other.pid),
                           " waits to be admitted with")),
          output);
      return Welcome::kOut;
    }
    const bool again = join.ticket != 0 && join.ticket == other.ticket;
    TurnAway(other.stream, again ? ComeAgain(join) : ReplacedBy(join), output);
  }
  Candidate candidate;
  candidate.member =
      Member{Member::State::kHere, stream, join.host, join.pid, join.incarnation, now};
  candidate.member.acknowledges = true;
  candidate.member.ticket = join.ticket;
  candidate.since = now;
  candidate.timeout =
      join.join_timeout > absl::ZeroDuration() ? join.join_timeout : shared_->timeouts.join;
  waiting_.insert_or_assign(join.rank, std::move(candidate));
  Note(Note::Severity::kInfo,
       absl::StrCat(members_.Name(), ": ", Worker(join.rank, join.host, join.pid),
                    " waits for a boundary"),
       output, {join.rank});
  // What resumes may have waited for this rank.
  if (state_ == State::kForming && members_.full()) Start(output);
  return Welcome::kIn;
}

void Group::StopWaiting(StreamId stream, uint32_t rank) {
  const auto it = waiting_.find(rank);
  if (it != waiting_.end() && it->second.member.stream == stream) waiting_.erase(it);
}

Failure Group::ComeAgain(const wire::Join& join) const {
  return members_.Fail(absl::StatusCode::kUnavailable, RoundKey{.epoch = members_.epoch()},
                       {join.rank},
                       absl::StrCat(members_.Name(), ": ", Worker(join.rank, join.host, join.pid),
                                    " has joined again, on another stream"));
}

Failure Group::ReplacedBy(const wire::Join& join) const {
  return members_.Fail(
      absl::StatusCode::kFailedPrecondition, RoundKey{.epoch = members_.epoch()}, {join.rank},
      absl::StrCat(members_.Name(), ": fenced: this worker was replaced by ",
                   Worker(join.rank, join.host, join.pid), ", which has joined with its rank"));
}

Failure Group::Unavailable(const std::string& why) const {
  return members_.Fail(absl::StatusCode::kUnavailable, RoundKey{.epoch = members_.epoch()}, {},
                       absl::StrCat(members_.Name(), ": ", why));
}

void Group::TurnAway(StreamId stream, const Failure& failure, Output* output) {
  output->replies.push_back({stream, Encode(failure), /*answer=*/true, /*close=*/true});
}

absl::Status Group::Contribute(absl::Time now, uint32_t rank, wire::Contribution* contribution,
                               Output* output) {
  SYNCNORM_CHECK(rounds_.has_value());
  members_.Heard(rank, now, contribution->key.round);
  const RoundKey& key = contribution->key;  // what is taken out is the values
  const auto answer = [&](const Failure& failure) {
    output->replies.push_back({members_.member(rank).stream, Encode(failure), /*answer=*/true});
  };
  // Rounds keep counting when the members change, and what was sent before stays valid; without
  // such a policy there is one epoch.
  if (key.epoch > members_.epoch() ||
      (key.epoch != members_.epoch() && members_.on_loss() == OnLoss::kFail)) {
    answer(members_.Fail(absl::StatusCode::kFailedPrecondition, key, {rank},
                         absl::StrCat(members_.Name(), ": ", members_.Who(rank),
                                      " sent a contribution of epoch ", key.epoch)));
    return absl::OkStatus();
  }
  if (state_ == State::kRunning && !rounds_->Expects(rank, key.round)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a Contribution to round ", key.round, ", in which it takes no part"));
  }
  if (state_ == State::kLeaving && key.round >= rounds_->next()) {
    CloseAsOthersLeft(now, absl::StrCat(" before ", Describe(key)), output);
  }
  if (state_ != State::kClosed) {
    // Its worker sends it again, to whoever comes after.
    if (draining_ && key.round >= rounds_->next()) return absl::OkStatus();
    std::optional<EndOfEpoch> end = rounds_->Contribute(now, rank, contribution, &answers_);
    Send(now, output);
    if (!end.has_value()) return absl::OkStatus();
    Close(now, end->code, std::move(end->ranks), end->what, output);
  }
  Failure failure = *closed_;
  failure.key = key;
  answer(failure);
  return absl::OkStatus();
}

absl::Status Group::Finish(absl::Time now, uint32_t rank, Output* output) {
  if (members_.on_loss() == OnLoss::kFail) {
    return absl::InvalidArgumentError("a Finish, which the group's policy, fail, does not have");
  }
  if (state_ == State::kLeaving) {
    CloseAsOthersLeft(now, absl::StrCat(" before ", members_.Who(rank), " had finished"), output);
  }
  if (state_ != State::kRunning || members_.member(rank).finished) return absl::OkStatus();
  members_.SetFinished(rank, true);
  members_.SetTakesPart(rank, false);
  rounds_->Excuse(now, rank, &answers_);
  Send(now, output);
  if (members_.participants().empty()) {
    Regroup(output);
  } else {
    ChangeEpoch(absl::StrCat(members_.Who(rank), " has finished"), {}, 0, output);
  }
  return absl::OkStatus();
}

void Group::Regroup(Output* output) {
  std::vector<uint32_t> back;
  for (uint32_t rank = 0; rank < members_.size(); ++rank) {
    if (!members_.member(rank).finished) continue;
    members_.SetFinished(rank, false);
    members_.SetTakesPart(rank, true);
    back.push_back(rank);
  }
  if (back.empty()) return;
  rounds_->Admit(back);
  regrouped_ = shared_->epochs + 1;
  ChangeEpoch("all have finished", {}, 0, output);
}

void Group::AdmitWaiting(absl::Time now, Output* output) {
  if (waiting_.empty() || handing_over_.has_value() || draining_) return;
  const std::vector<uint32_t> participants = members_.participants();
  const auto provider = std::find_if(participants.begin(), participants.end(), [&](uint32_t rank) {
    return members_.member(rank).state == Member::State::kHere;
  });
  // They wait for a boundary at which one of the members is here to hand its state over.
  if (provider == participants.end()) return;
  std::vector<uint32_t> admitted;
  for (auto& [rank, candidate] : std::exchange(waiting_, {})) {
    members_.Admit(rank, std::move(candidate.member));
    admitted.push_back(rank);
  }
  rounds_->Admit(admitted);
  handing_over_ = HandingOver{*provider, admitted, 0, now + members_.round_timeout()};
  ChangeEpoch(absl::StrCat(Ranks(admitted), admitted.size() == 1 ? " was" : " were", " admitted"),
              admitted, *provider, output);
}

void Group::ChangeEpoch(const std::string& why, const std::vector<uint32_t>& admitted,
                        uint32_t provider, Output* output) {
  members_.Establish(++shared_->epochs, rounds_->next());
  wire::EpochChanged changed;
  changed.epoch = members_.epoch();
  changed.first_round = rounds_->next();
  changed.members = members_.participants();
  changed.hosts = members_.hosts();
  changed.text = absl::StrCat(members_.Name(), " from round ", rounds_->next(), ": ", why);
  changed.admitted = admitted;
  changed.provider = provider;
  changed.regrouped = changed.epoch == regrouped_;
  const auto bytes = std::make_shared<const std::string>(shared_->codec.Encode(changed));
  for (const uint32_t rank : members_.In(Member::State::kHere)) {
    // Others learn it from their Joined.
    if (members_.member(rank).joined) {
      output->replies.push_back({members_.member(rank).stream, bytes});
    }
  }
  Note(Note::Severity::kInfo, changed.text, output, admitted);
}

absl::Status Group::HandOver(absl::Time now, uint32_t rank, const wire::Handover& piece,
                             Output* output) {
  // Those it was for may have gone meanwhile.
  if (!handing_over_.has_value()) return absl::OkStatus();
  if (handing_over_->provider != rank) {
    return absl::InvalidArgumentError("a Handover that it was not asked for");
  }
  if (!piece.failure.empty()) {
    EndHandover(now, absl::StatusCode::kAborted,
                absl::StrCat(members_.Who(rank), " cannot hand its state over: ", piece.failure),
                output);
    return absl::OkStatus();
  }
  handing_over_->bytes += piece.chunk.size();
  if (handing_over_->bytes > shared_->limits.handover_bytes) {
    EndHandover(now, absl::StatusCode::kResourceExhausted,
                absl::StrCat("the state that ", members_.Who(rank), " hands over exceeds ",
                             shared_->limits.handover_bytes, " bytes"),
                output);
    return absl::OkStatus();
  }
  const auto bytes = std::make_shared<const std::string>(shared_->codec.EncodeToWorker(piece));
  for (const uint32_t to : handing_over_->to) {
    output->replies.push_back({members_.member(to).stream, bytes});
  }
  if (!piece.last) return absl::OkStatus();
  const std::vector<uint32_t> admitted = std::move(handing_over_->to);
  handing_over_.reset();
  for (const uint32_t to : admitted) SendJoined(to, output);
  return absl::OkStatus();
}

void Group::EndHandover(absl::Time now, absl::StatusCode code, const std::string& why,
                        Output* output) {
  const std::vector<uint32_t> admitted = std::move(handing_over_->to);
  handing_over_.reset();
  for (const uint32_t rank : admitted) {
    TurnAway(members_.member(rank).stream,
             members_.Fail(code, RoundKey{.epoch = members_.epoch()}, {rank},
                           absl::StrCat(members_.Name(), ": ", members_.Who(rank),
                                        " was admitted, but ", why, "; join again")),
             output);
    members_.Gone(rank, Member::State::kLost);
    Shrink(now, rank, absl::StrCat("could not go on: ", why), output);
  }
}

bool Group::IsAdmitted(uint32_t rank) const {
  return handing_over_.has_value() && std::find(handing_over_->to.begin(), handing_over_->to.end(),
                                                rank) != handing_over_->to.end();
}

bool Group::IsJoined(StreamId stream, uint32_t rank) const {
  const Member& member = members_.member(rank);
  return state_ != State::kForming && member.state == Member::State::kHere &&
         member.stream == stream && member.joined;
}

std::string Group::Who(StreamId stream, uint32_t rank) const {
  const auto it = waiting_.find(rank);
  if (it == waiting_.end() || it->second.member.stream != stream) return members_.Who(rank);
  return Worker(rank, it->second.member.host, it->second.member.pid);
}

void Group::Leave(absl::Time now, StreamId stream, uint32_t rank, const std::string& reason,
                  Output* output) {
  output->replies.push_back({stream, nullptr, /*answer=*/true, /*close=*/true});
  if (members_.member(rank).stream != stream) {
    StopWaiting(stream, rank);
    return;
  }
  const bool running = state_ == State::kRunning || state_ == State::kLeaving;
  const std::string how = absl::StrCat("left", reason.empty() ? "" : ": ", reason, "; ",
                                       running ? rounds_->LastOf(rank) : std::string());
  members_.Gone(rank, Member::State::kLeft);
  if (!running) return;
  if (members_.on_loss() == OnLoss::kShrink) {
    Shrink(now, rank, how, output);
    return;
  }
  state_ = State::kLeaving;
  if (rounds_->Waits(rank)) {
    Close(now, absl::StatusCode::kAborted, {rank}, absl::StrCat(members_.Who(rank), " ", how),
          output);
  }
}

void Group::Lose(absl::Time now, StreamId stream, uint32_t rank, absl::string_view how,
                 bool may_return, Output* output) {
  if (members_.member(rank).stream != stream) {
    StopWaiting(stream, rank);
    return;
  }
  if (state_ == State::kForming) {
    members_.Gone(rank, Member::State::kAbsent);
    Note(Note::Severity::kWarning,
         absl::StrCat(members_.Name(), ": ", members_.Who(rank), " ", how, " while joining"),
         output, {rank});
    return;
  }
  const bool running = state_ == State::kRunning || state_ == State::kLeaving;
  if (running && may_return && !IsAdmitted(rank) &&
      shared_->timeouts.reconnect > absl::ZeroDuration()) {
    members_.Gone(rank, Member::State::kAway, now);
    // What it had sent of its state may have got lost.
    if (handing_over_.has_value() && handing_over_->provider == rank) {
      EndHandover(now, absl::StatusCode::kUnavailable,
                  absl::StrCat("its provider, ", members_.Who(rank), " ", how), output);
    }
    return;
  }
  LoseForGood(now, rank, std::string(how), output);
}

void Group::LoseForGood(absl::Time now, uint32_t rank, const std::string& how, Output* output) {
  members_.Gone(rank, Member::State::kLost);
  if (state_ != State::kRunning && state_ != State::kLeaving) return;
  const std::string what = absl::StrCat(how, "; ", rounds_->LastOf(rank));
  if (members_.on_loss() == OnLoss::kShrink) {
    Shrink(now, rank, what, output);
  } else {
    Close(now, absl::StatusCode::kAborted, {rank}, absl::StrCat(members_.Who(rank), " ", what),
          output);
  }
}

void Group::Shrink(absl::Time now, uint32_t rank, const std::string& how, Output* output) {
  const bool took_part = members_.takes_part(rank);
  members_.SetTakesPart(rank, false);
  members_.SetFinished(rank, false);
  if (handing_over_.has_value()) {
    std::vector<uint32_t>& to = handing_over_->to;
    to.erase(std::remove(to.begin(), to.end(), rank), to.end());
    if (to.empty()) handing_over_.reset();
  }
  rounds_->Excuse(now, rank, &answers_);
  Send(now, output);
  const std::string why = absl::StrCat(members_.Who(rank), " ", how);
  if (members_.participants().empty()) {
    Regroup(output);
  } else if (took_part) {
    ChangeEpoch(why, {}, 0, output);
  }
  if (handing_over_.has_value() && handing_over_->provider == rank) {
    EndHandover(now, absl::StatusCode::kUnavailable, absl::StrCat("its provider, ", why), output);
  }
  if (members_.here() + members_.away() > 0) return;
  // Those that wait have nobody to be admitted by: their workers try again, and form a new group.
  state_ = State::kClosed;
  closed_ = members_.Fail(absl::StatusCode::kUnavailable, RoundKey{.epoch = members_.epoch()},
                          {rank}, absl::StrCat(members_.Name(), ": ", why, "; nobody is left"));
  TurnAwayWaiting(*closed_, output);
}

void Group::Tick(absl::Time now, Output* output) {
  if (rounds_) timeline_.Sample(now, rounds_->counters().durations, rounds_->lateness());
  if (state_ == State::kForming && now >= members_.join_deadline()) {
    if (members_.resuming() && members_.on_loss() == OnLoss::kShrink && members_.here() > 0) {
      const Failure failure = members_.JoinDeadline();
      for (const uint32_t rank : members_.In(Member::State::kHere)) {
        if (members_.member(rank).kept == 0) continue;
        TurnAway(members_.member(rank).stream, failure, output);
        members_.Gone(rank, Member::State::kLost);
      }
      if (members_.here() > 0) {
        Note(failure, output);
        members_.GiveUpAbsent();
        Start(output);
        return;
      }
    }
    EndJoining(members_.JoinDeadline(), output);
    return;
  }
  if (state_ != State::kRunning && state_ != State::kLeaving) return;
  // While the coordinator goes down nobody can come back here; at its next life they can.
  const std::vector<uint32_t> away =
      draining_ ? std::vector<uint32_t>() : members_.In(Member::State::kAway);
  for (const uint32_t rank : away) {
    const Member& member = members_.member(rank);
    if (member.state != Member::State::kAway || now < member.away + shared_->timeouts.reconnect) {
      continue;
    }
    LoseForGood(now, rank,
                absl::StrCat("disconnected and did not come back within ",
                             absl::FormatDuration(shared_->timeouts.reconnect)),
                output);
    if (state_ == State::kClosed) return;
  }
  if (handing_over_.has_value() && now >= handing_over_->deadline) {
    EndHandover(
        now, absl::StatusCode::kDeadlineExceeded,
        absl::StrCat(members_.Who(handing_over_->provider), " did not hand its state over within ",
                     InSeconds(members_.round_timeout())),
        output);
  }
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const auto& [rank, candidate] = *it;
    if (now < candidate.since + candidate.timeout) {
      ++it;
      continue;
    }
    TurnAway(
        candidate.member.stream,
        members_.Fail(absl::StatusCode::kDeadlineExceeded, RoundKey(), {rank},
                      absl::StrCat(members_.Name(), ": the members came to no boundary, to ",
                                   "admit rank ", rank, ", within ", InSeconds(candidate.timeout))),
        output);
    it = waiting_.erase(it);
  }
  rounds_->Expire(now, &answers_);
  rounds_->Warn(now);
  Send(now, output);
}

void Group::Drain(absl::Time now, Output* output) {
  draining_ = true;
  const Failure failure = Unavailable(kGoingDown);
  TurnAwayWaiting(failure, output);
  if (handing_over_.has_value())
    EndHandover(now, absl::StatusCode::kUnavailable, kGoingDown, output);
}

void Group::Shut(absl::Time now, Output* output) {
  const Failure failure = Unavailable(kGoingDown);
  if (state_ == State::kForming) {
    EndJoining(failure, output);
    return;
  }
  if (state_ == State::kLeaving) {
    CloseAsOthersLeft(now, absl::StrCat(", and ", kGoingDown), output);
  }
  const bool running = state_ == State::kRunning;
  state_ = State::kClosed;
  if (running) closed_ = failure;
  LoseAway();
  // Rounds that are still open are not failed: their members send them again, at the next life.
  SendToAll(running ? Encode(failure) : nullptr, /*answer=*/false, /*close=*/true, output);
}

void Group::Close(absl::Time now, absl::StatusCode code, std::vector<uint32_t> ranks,
                  const std::string& what, Output* output) {
  state_ = State::kClosed;
  std::vector<uint32_t> admitted;  // and not Joined yet: their Join is still to be answered
  if (handing_over_.has_value()) admitted = std::move(handing_over_->to);
  handing_over_.reset();
  const std::string why = absl::StrCat(what, "; epoch ", members_.epoch(), " is closed");
  rounds_->FailOpen(now, code, ranks, why, &answers_);
  rounds_->TakeFailures();  // one note, below, is enough
  rounds_->TakeBoundary();
  Send(now, output);
  closed_ = members_.Fail(code, RoundKey{.epoch = members_.epoch()}, std::move(ranks),
                          absl::StrCat(members_.Name(), ": ", why));
  LoseAway();
  TurnAwayWaiting(*closed_, output);
  for (const uint32_t rank : admitted) {
    TurnAway(members_.member(rank).stream, *closed_, output);
    members_.Gone(rank, Member::State::kLost);
  }
  SendToAll(Encode(*closed_), /*answer=*/false, /*close=*/false, output);
  Note(*closed_, output);
  if (incident_.empty()) incident_ = closed_->text;
}

void Group::CloseAsOthersLeft(absl::Time now, const std::string& rest, Output* output) {
  const std::vector<uint32_t> left = members_.In(Member::State::kLeft);
  Close(now, absl::StatusCode::kAborted, left, absl::StrCat(Ranks(left), " left", rest), output);
}

void Group::LoseAway() {
  for (const uint32_t rank : members_.In(Member::State::kAway)) {
    members_.Gone(rank, Member::State::kLost);
  }
}

void Group::TurnAwayWaiting(const Failure& failure, Output* output) {
  for (const auto& [rank, candidate] : std::exchange(waiting_, {})) {
    TurnAway(candidate.member.stream, failure, output);
  }
}

bool Group::AtRest() const {
  if (empty() || state_ == State::kLeaving) return false;
  return !rounds_.has_value() || rounds_->open() == 0;
}

absl::Time Group::NextDeadline() const {
  if (state_ == State::kForming) return members_.join_deadline();
  if (state_ == State::kClosed) return absl::InfiniteFuture();
  absl::Time next = rounds_->NextDeadline();
  if (members_.away() > 0 && !draining_) {
    for (const uint32_t rank : members_.In(Member::State::kAway)) {
      next = std::min(next, members_.member(rank).away + shared_->timeouts.reconnect);
    }
  }
  if (handing_over_.has_value()) next = std::min(next, handing_over_->deadline);
  for (const auto& [rank, candidate] : waiting_) {
    next = std::min(next, candidate.since + candidate.timeout);
  }
  return next;
}

std::vector<StreamId> Group::streams() const {
  std::vector<StreamId> streams;
  for (const uint32_t rank : members_.In(Member::State::kHere)) {
    streams.push_back(members_.member(rank).stream);
  }
  for (const auto& [rank, candidate] : waiting_) streams.push_back(candidate.member.stream);
  return streams;
}

void Group::Send(absl::Time now, Output* output) {
  // Members learn who was admitted before they go on.
  if (rounds_->TakeBoundary()) AdmitWaiting(now, output);
  for (const Answer& answer : answers_) {
    for (const uint32_t rank : answer.ranks) {
      const Member& member = members_.member(rank);
      // One that is back, and has not sent it again yet, gets its answer when it has.
      if (!member.joined || member.state != Member::State::kHere ||
          member.received < answer.round) {
        continue;
      }
      output->replies.push_back({member.stream, answer.bytes, /*answer=*/true});
    }
  }
  answers_.clear();
  for (server::Note& remark : rounds_->TakeRemarks()) output->notes.push_back(std::move(remark));
  for (const Failure& failure : rounds_->TakeFailures()) {
    if (incident_.empty()) incident_ = failure.text;
    Note(failure, output);
  }
}

void Group::SendToAll(const Bytes& bytes, bool answer, bool close, Output* output) {
  for (const uint32_t rank : members_.In(Member::State::kHere)) {
    output->replies.push_back({members_.member(rank).stream, bytes, answer, close});
    if (close) members_.Gone(rank, Member::State::kLost);
  }
}

void Group::Note(Note::Severity severity, std::string text, Output* output,
                 std::vector<uint32_t> ranks) {
  output->notes.push_back(
      {severity,
       Note::Source::kGroup,
       std::move(text),
       {members_.group(), RoundKey{.epoch = members_.epoch()}, std::move(ranks)}});
}

void Group::Note(const Failure& failure, Output* output) {
  output->notes.push_back(
      {Note::Severity::kWarning, Note::Source::kGroup, failure.text, SubjectOf(failure)});
}

Bytes Group::Encode(const Failure& failure) {
  return std::make_shared<const std::string>(shared_->codec.Encode(failure));
}

}  // namespace syncnorm::server
