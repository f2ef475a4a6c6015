#include "tests/sim/process.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "client/backoff.h"
#include "kernels/check.h"

namespace syncnorm::sim {
namespace {

// A worker whose stream broke opens another one at once, or when it looks if no call waits, and
// then in growing intervals, as client/connection.cc does.
constexpr absl::Duration kIdleLook = absl::Milliseconds(20);
// As client/join.cc.
constexpr absl::Duration kMostToCome = absl::Seconds(1);
// As client/connection.h.
constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);
// After a failure, before the next try: what a trainer needs to load its checkpoint.
constexpr absl::Duration kRestMost = absl::Milliseconds(200);
// Steps of a pass (kFinish) as it is numbered, and as it is usual.
constexpr uint64_t kPass = 64;
constexpr uint32_t kUsualPass = 4;
// Contributions that may come again.
constexpr size_t kSentKept = 8;

std::string Sixteen(uint64_t a, uint64_t b) {
  std::string bytes(16, 0);
  std::memcpy(bytes.data(), &a, 8);
  std::memcpy(bytes.data() + 8, &b, 8);
  return bytes;
}

uint64_t DigestOf(const Moments& moments) {
  uint64_t digest = moments.count;
  for (const double value : moments.values) digest = Mix(digest, std::bit_cast<uint64_t>(value));
  return digest;
}

}  // namespace

Process::Process(const Worker::Surroundings& around, const Who& who, const std::string& host,
                 uint32_t machine, uint64_t seed)
    : around_(around),
      who_(who),
      host_(host),
      machine_(machine),
      incarnation_(Sixteen(Mix(seed, 1), Mix(seed, 2))),
      ticket_(Mix(seed, 3)),
      random_(seed) {}

std::string Process::Where() const {
  static constexpr const char* kNames[] = {"joining", "resting", "training",
                                           "leaving", "over",    "dead"};
  return absl::StrCat(
      who_.Name(), " (", kNames[static_cast<int>(phase_)], paused_ ? ", paused" : "", ", step ",
      position_.step, ".", position_.index, ", ", calls_.size(), " calls",
      session_ != nullptr && session_->phase() == Session::Phase::kAway ? ", away" : "",
      finishing_ ? ", finished" : "", ")");
}

void Process::Start() {
  Run([this] { BeginJoin(); });
}

void Process::Die(absl::Duration notice) {
  if (line_ != nullptr) around_.network->CallerDies(line_, notice);
  line_ = nullptr;
  if (phase_ == Phase::kTraining) around_.judge->Gone(who_, run_);
  phase_ = Phase::kDead;
  waiting_.clear();
}

void Process::Pause() {
  if (paused_ || phase_ == Phase::kDead) return;
  paused_ = true;
  paused_at_ = now();
}

void Process::Resume() {
  if (!paused_) return;
  paused_ = false;
  const absl::Duration paused = now() - paused_at_;
  for (Call& call : calls_) call.bound += paused;
  join_began_ += phase_ == Phase::kJoining ? paused : absl::ZeroDuration();
  for (const auto& event : std::exchange(waiting_, {})) Run(event);
  wake_at_ = absl::InfiniteFuture();
  Run([this] { Wake(); });
}

void Process::Run(std::function<void()> event) {
  if (phase_ == Phase::kDead) return;
  if (paused_) {
    waiting_.push_back(std::move(event));
    return;
  }
  event();
  Train();
  PlanWake();
}

void Process::PlanWake() {
  absl::Time next = next_try_;
  if (phase_ == Phase::kJoining) {
    const absl::Duration slack = reached_ ? Session::kAnswerSlack : absl::ZeroDuration();
    next = std::min(next, join_began_ + plan().join_timeout + slack);
  } else if (phase_ == Phase::kTraining) {
    next = std::min({next, session_->deadline(), leave_until_});
  } else if (phase_ == Phase::kLeaving) {
    next = std::min(next, leave_until_);
  }
  if (next >= wake_at_) return;
  wake_at_ = next;
  around_.timeline->At(next, [this] {
    Run([this] {
      if (wake_at_ > now()) return;  // another one is planned
      Wake();
    });
  });
}

void Process::Wake() {
  wake_at_ = absl::InfiniteFuture();
  const bool try_now = next_try_ <= now();
  if (try_now) next_try_ = absl::InfiniteFuture();
  switch (phase_) {
    case Phase::kResting:
      if (try_now) BeginJoin();
      break;
    case Phase::kJoining:
      if (now() >= join_began_ + plan().join_timeout) {
        if (line_ != nullptr && reached_ &&
            now() < join_began_ + plan().join_timeout + Session::kAnswerSlack) {
          break;
        }
        const bool reached = line_ != nullptr && reached_;
        const std::string who = absl::StrCat("rank ", who_.rank, " of group ", plan().name);
        FailJoin(reached
                     ? absl::DeadlineExceededError(
                           absl::StrCat("no answer from the coordinator to the join of ", who))
                     : absl::UnavailableError(absl::StrCat("nothing answered the join of ", who)));
      } else if (try_now) {
        TryJoin();
      }
      break;
    case Phase::kTraining:
      session_->Advance(now(), &completions_);
      Deliver(&completions_);
      if (phase_ == Phase::kTraining && try_now && line_ == nullptr) Reopen();
      break;
    case Phase::kLeaving:
      if (now() >= leave_until_) EndLeave();
      break;
    case Phase::kOver:
    case Phase::kDead:
      break;
  }
}

void Process::BeginJoin() {
  if (around_.group->over || disowned_) {
    phase_ = Phase::kOver;
    return;
  }
  phase_ = Phase::kJoining;
  join_began_ = now();
  ticket_ = Mix(ticket_) | 1;
  attempts_ = 0;
  reached_before_ = false;
  TryJoin();
}

void Process::TryJoin() {
  wire::Join join;
  join.group = plan().name;
  join.rank = who_.rank;
  join.world_size = plan().size;
  join.host = host_;
  join.pid = 100 + who_.life;
  join.incarnation = incarnation_;
  join.job = "job";
  join.round_timeout = plan().round_timeout;
  join.join_timeout = std::max(join_began_ + plan().join_timeout - now(), absl::Milliseconds(1));
  join.on_loss = plan().on_loss;
  join.non_finite = plan().non_finite;
  join.ticket = ticket_;
  reached_ = false;
  session_ = std::make_unique<Session>("sim", join);
  line_ = around_.network->Open(machine_, this);
  Send(session_->Start().front());
}

void Process::RetryJoin(const absl::Status& why) {
  Drop();
  if (absl::IsUnavailable(why)) {
    attempts_ = reached_ == reached_before_ ? attempts_ + 1 : 1;
    reached_before_ = reached_;
    next_try_ = now() + Backoff(attempts_, who_.rank, reached_ ? kMostToReturn : kMostToCome);
  } else {
    FailJoin(why);
  }
}

void Process::FailJoin(const absl::Status& why) {
  around_.log->Add(who_.Name(), " cannot join: ", why.message());
  around_.judge->CheckBound(who_, join_began_ + plan().join_timeout + Judge::kSlack, "joining");
  around_.judge->Failed(who_, why, "joining");
  if (around_.group->reduced && absl::IsDeadlineExceeded(why)) around_.group->over = true;
  Rest();
}

void Process::OnJoinedFirst() {
  phase_ = Phase::kTraining;
  next_try_ = absl::InfiniteFuture();
  attempts_ = 0;
  run_ = session_->joined().run_id;
  epoch_ = session_->epoch();
  calls_.clear();
  sent_.clear();
  computing_ = finishing_ = boundary_done_ = false;
  leave_until_ = absl::InfiniteFuture();
  failed_ = 0;
  if (session_->handed_over().empty()) {
    position_ = {around_.group->StartOf(run_), 0};
    state_ = state_before_ = Mix(position_.step);
  } else {
    TakeOver(session_->handed_over());
    // It is given after that boundary.
    boundary_done_ = true;
  }
  around_.log->Add(who_.Name(), " joined epoch ", epoch_, " at step ", position_.step,
                   ", next is round ", session_->joined().first_round);
}

void Process::TakeOver(const std::string& state) {
  const std::vector<std::string> parts = absl::StrSplit(state, ' ');
  const bool good = parts.size() == 2 && absl::SimpleAtoi(parts[0], &position_.step) &&
                    absl::SimpleAtoi(parts[1], &state_);
  if (!good) {
    around_.judge->Report("agreement",
                          absl::StrCat(who_.Name(), " was handed over \"", state, "\""));
  }
  position_.index = 0;
  state_before_ = state_;
}

void Process::OnOpened(Line* line) {
  Run([this, line] {
    if (line == line_) reached_ = true;
  });
}

void Process::OnMessage(Line* line, const Bytes& bytes) {
  Run([this, line, bytes] {
    if (line != line_) return;
    const absl::Status decoded = codec_.Decode(*bytes, &incoming_);
    if (!decoded.ok()) {
      session_->Garbled(decoded, &completions_);
      Deliver(&completions_);
      return;
    }
    const bool member = phase_ == Phase::kTraining;
    const Session::Phase before = session_->phase();
    using Kind = wire::CoordinatorMessage::Kind;
    const Kind kind = incoming_.kind;
    if (kind == Kind::kResult && member) {
      around_.judge->Received(who_, run_, incoming_.result, bytes);
    } else if (kind == Kind::kJoined) {
      around_.judge->Joined(who_, incoming_.joined, before == Session::Phase::kAway);
    } else if (kind == Kind::kEpochChanged && member) {
      around_.log->Add(who_.Name(), " learns: ", incoming_.epoch_changed.text);
      around_.judge->EpochChanged(who_, run_, incoming_.epoch_changed);
    } else if (kind == Kind::kFailure) {
      around_.log->Add(who_.Name(), " is told: ", incoming_.failure.text);
    }
    session_->Receive(&incoming_, *bytes, now(), &completions_);
    if (phase_ == Phase::kJoining) {
      if (session_->phase() == Session::Phase::kJoined) {
        OnJoinedFirst();
      } else if (session_->phase() == Session::Phase::kFailed) {
        RetryJoin(session_->failure());
      }
      return;
    }
    Deliver(&completions_);
    if (phase_ == Phase::kTraining && before == Session::Phase::kAway &&
        session_->phase() == Session::Phase::kJoined) {
      around_.log->Add(who_.Name(), " is back in epoch ", session_->epoch());
      attempts_ = 0;
      Replay();
    }
  });
}

void Process::OnClosed(Line* line, const absl::Status& status) {
  Run([this, line, status] {
    if (line != line_) return;
    line_ = nullptr;
    switch (phase_) {
      case Phase::kJoining: {
        session_->Closed(status, now(), &completions_);
        RetryJoin(session_->failure());
        break;
      }
      case Phase::kTraining:
        around_.log->Add(who_.Name(), " lost its line: ", status.message());
        session_->Closed(status, now(), &completions_);
        Deliver(&completions_);
        if (phase_ != Phase::kTraining) break;
        if (attempts_ == 0 && !calls_.empty()) {
          Reopen();
        } else if (attempts_ == 0) {
          next_try_ = now() + random_.Between(absl::ZeroDuration(), kIdleLook);
        } else {
          next_try_ = now() + Backoff(attempts_, who_.rank, kMostToReturn);
        }
        break;
      case Phase::kLeaving:
        EndLeave();
        break;
      default:
        break;
    }
  });
}

void Process::Reopen() {
  ++attempts_;
  sent_.clear();
  line_ = around_.network->Open(machine_, this);
  std::vector<Bytes> messages = session_->Start();
  if (around_.mutation == Mutation::kForgetRestored && messages.size() > 1) {
    wire::WorkerMessage join;
    SYNCNORM_CHECK(codec_.Decode(*messages.front(), &join).ok());
    join.join.resume->kept = 0;
    messages = {std::make_shared<const std::string>(codec_.Encode(join.join))};
  }
  for (const Bytes& bytes : messages) Send(bytes);
}

void Process::Replay() {
  std::vector<Bytes> messages = session_->TakeReplay();
  if (around_.mutation == Mutation::kReplayNothing) return;
  if (around_.mutation == Mutation::kReplayRenumbered && messages.size() > 1) {
    wire::WorkerMessage last;
    SYNCNORM_CHECK(codec_.Decode(*messages.back(), &last).ok());
    --last.contribution.key.round;
    messages.back() = std::make_shared<const std::string>(codec_.Encode(last.contribution));
  }
  for (const Bytes& bytes : messages) SendContribution(bytes);
}

void Process::Drop() {
  if (line_ != nullptr) around_.network->Cancel(line_);
  line_ = nullptr;
}

void Process::Rest() {
  Drop();
  phase_ = Phase::kResting;
  calls_.clear();
  next_try_ = now() + random_.Between(absl::ZeroDuration(), kRestMost);
}

void Process::Send(const Bytes& bytes) {
  if (line_ != nullptr && bytes != nullptr) around_.network->SendUp(line_, bytes);
}

void Process::SendContribution(const Bytes& bytes) {
  Send(bytes);
  if (bytes == nullptr) return;
  const FaultPlan& faults = *around_.faults;
  if (faults.duplicate_chance == 0 && faults.replay_chance == 0) return;
  if (random_.Chance(faults.duplicate_chance)) {
    ++*around_.repeats;
    Send(bytes);
  }
  sent_.push_back(bytes);
  if (sent_.size() > kSentKept) sent_.erase(sent_.begin());
  if (random_.Chance(faults.replay_chance)) {
    ++*around_.repeats;
    Send(sent_[random_.Below(static_cast<uint32_t>(sent_.size()))]);
  }
}

void Process::Deliver(Completions* done) {
  for (const Session::Completion& completion : std::exchange(*done, {})) OnEnd(completion);
  CheckMembership();
}

void Process::OnEnd(const Session::Completion& completion) {
  // In order but for rounds that failed ahead of their turn.
  const auto at = std::find_if(calls_.begin(), calls_.end(),
                               [&](const Call& call) { return call.round == completion.round; });
  if (at == calls_.end()) {
    around_.judge->Report("at most once", absl::StrCat(who_.Name(), " round ", completion.round,
                                                       " ended, which was not under way"));
    return;
  }
  if (at != calls_.begin() && completion.result.ok()) {
    around_.judge->Report("agreement",
                          absl::StrCat(who_.Name(), " got the result of round ", completion.round,
                                       " before that of round ", calls_.front().round));
  }
  const Call call = *at;
  calls_.erase(at);
  if (completion.result.ok()) {
    state_before_ = state_;
    state_ = Mix(state_, completion.round, DigestOf(*completion.result));
  } else {
    ++failed_;
  }
  around_.judge->CheckBound(who_, call.bound, absl::StrCat("round ", call.round));
  const bool member = session_->phase() != Session::Phase::kFailed;
  around_.judge->Ended(who_, run_, call.round, completion.result, member, state_);
  if (!member) return;
  if (call.boundary) {
    HandOver();
  } else if (call.position.index + 1 == around_.group->program.per_step()) {
    uint64_t& progress = around_.group->progress[who_.rank];
    progress = std::max(progress, call.position.step + 1);
  }
}

void Process::CheckMembership() {
  if (phase_ != Phase::kTraining) return;
  if (session_->phase() == Session::Phase::kFailed) {
    around_.judge->Gone(who_, run_);
    around_.log->Add(who_.Name(), " is no member any more: ", session_->failure().message());
    // At its end nobody misses anything.
    if (!AtEnd() || !calls_.empty()) {
      around_.judge->Failed(who_, session_->failure(), "the membership");
    }
    Rest();
    return;
  }
  if (finishing_ && !session_->finished()) {
    finishing_ = false;
    around_.judge->Returned(who_, run_);
    position_ = {(position_.step / kPass + 1) * kPass, 0};
    around_.group->progress[who_.rank] = position_.step;
    // It has missed what the others did meanwhile: trainers start a pass alike.
    state_ = state_before_ = Mix(position_.step);
  }
}

bool Process::AtEnd() const {
  if (plan().on_loss == OnLoss::kFinish) {
    return position_.step / kPass >= std::max<uint64_t>(plan().steps / kUsualPass, 1);
  }
  return position_.step >= plan().steps;
}

uint32_t Process::Quota(uint64_t pass) const {
  const uint64_t drawn = Mix(plan().seed, pass, who_.rank) % (2 * plan().uneven + 1);
  return static_cast<uint32_t>(kUsualPass + drawn - plan().uneven);
}

void Process::Train() {
  while (phase_ == Phase::kTraining && !computing_ && !finishing_) {
    if (session_->phase() != Session::Phase::kJoined &&
        session_->phase() != Session::Phase::kAway) {
      return;
    }
    if (position_.index == 0) {
      const bool finishes = plan().on_loss == OnLoss::kFinish && !AtEnd() &&
                            position_.step % kPass >= Quota(position_.step / kPass);
      const bool boundary = plan().boundary_every > 0 && !boundary_done_ &&
                            position_.step % plan().boundary_every == 0;
      if (AtEnd() || finishes || boundary) {
        if (!calls_.empty()) return;
        if (AtEnd()) {
          if (leave_until_ == absl::InfiniteFuture()) leave_until_ = now() + kLeaveTimeout;
          // One that is away is waited for to be back, for a while.
          if (session_->phase() == Session::Phase::kJoined || now() >= leave_until_) BeginLeave();
          return;
        }
        if (finishes) {
          CallFinish();
          return;
        }
        SubmitBoundary();
        continue;
      }
    }
    if (calls_.size() >= plan().window || (!calls_.empty() && calls_.back().boundary)) return;
    if (!Submit()) return;
  }
}

bool Process::Submit() {
  const Program& program = around_.group->program;
  const bool boundary = plan().boundary_every > 0 && !boundary_done_ && position_.index == 0 &&
                        position_.step % plan().boundary_every == 0;
  const Position here = boundary ? Position{position_.step, Program::kBoundary} : position_;
  Slice slice = program.Contribution(here, who_.rank, who_.life);
  Bytes bytes;
  const absl::StatusOr<uint64_t> round =
      session_->Submit(program.Key(here), slice.moments, now(), &bytes, boundary);
  if (!round.ok()) {
    around_.judge->Failed(who_, round.status(), "submitting");
    return false;
  }
  around_.judge->Submitted(who_, host_, run_, *round, here, std::move(slice));
  calls_.push_back(
      {*round, here, boundary, now() + session_->joined().round_timeout + Judge::kSlack});
  SendContribution(bytes);
  if (boundary) {
    boundary_done_ = true;
    return true;
  }
  boundary_done_ = false;
  position_ = program.After(position_);
  if (plan().compute > absl::ZeroDuration()) {
    computing_ = true;
    around_.timeline->After(random_.Between(absl::ZeroDuration(), plan().compute),
                            [this, run = run_] {
                              Run([this, run] {
                                if (run == run_) computing_ = false;
                              });
                            });
  }
  return true;
}

void Process::SubmitBoundary() { Submit(); }

void Process::HandOver() {
  const std::optional<Session::Admission> admission = session_->TakeAdmission();
  if (!admission.has_value() || !admission->provide) return;
  const uint64_t state = around_.mutation == Mutation::kStaleState ? state_before_ : state_;
  for (const Bytes& bytes : session_->HandOver(absl::StrCat(position_.step, " ", state))) {
    Send(bytes);
  }
}

void Process::CallFinish() {
  const absl::StatusOr<Bytes> bytes = session_->Finish();
  if (!bytes.ok()) {
    around_.judge->Failed(who_, bytes.status(), "finishing");
    return;
  }
  finishing_ = true;
  position_.step = position_.step / kPass * kPass + kPass - 1;
  around_.group->progress[who_.rank] = position_.step;
  around_.judge->Gone(who_, run_);
  Send(*bytes);
}

void Process::BeginLeave() {
  around_.judge->Gone(who_, run_);
  around_.group->over = true;
  // What the others still lack, a coordinator that is started again cannot get from a member that
  // has left.
  around_.judge->Excuse(who_.group, absl::InfiniteFuture(), who_.Name() + " leaves");
  const Bytes bytes = session_->Leave("leave");
  phase_ = Phase::kLeaving;
  leave_until_ = now() + kLeaveTimeout;
  if (bytes == nullptr || line_ == nullptr) {
    EndLeave();
    return;
  }
  Send(bytes);
  around_.network->HalfClose(line_);
}

void Process::EndLeave() {
  Drop();
  phase_ = Phase::kOver;
}

void Process::Look() {
  if (paused_ || phase_ == Phase::kDead || phase_ == Phase::kOver) return;
  if (phase_ == Phase::kJoining) {
    around_.judge->CheckBound(who_, join_began_ + plan().join_timeout + Judge::kSlack, "joining");
  }
  if (!calls_.empty()) {
    around_.judge->CheckBound(who_, calls_.front().bound,
                              absl::StrCat("round ", calls_.front().round));
  }
  // An answer is kept until the next but one round of every member tells that all have it; failures
  // tell nothing.
  if (session_ != nullptr && session_->kept() > 2 * plan().window + 2 + failed_) {
    around_.judge->Report("bounded memory",
                          absl::StrCat(who_.Name(), " keeps ", session_->kept(),
                                       " answers, with a window of ", plan().window));
  }
}

}  // namespace syncnorm::sim
