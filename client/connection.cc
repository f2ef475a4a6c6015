#include "client/connection.h"

#include <syncnorm/interrupt.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/backoff.h"
#include "kernels/check.h"
#include "proto/failpoint.h"

namespace syncnorm {
namespace {

// A worker that computes is to notice its broken stream well within the 150 ms that the coordinator
// waits for it (Timeouts.reconnect); fifty wake-ups a second cost about a thousandth of a core.
constexpr absl::Duration kIdleLook = absl::Milliseconds(20);
// Between looks at whether the last stream's writes have all come back.
constexpr absl::Duration kSettleLook = absl::Milliseconds(1);

}  // namespace

// One submitted round.  Its fields are guarded by the connection's mutex.
class Connection::Round final : public MomentsFuture::State {
 public:
  // `connection` is kept alive for as long as a future refers to it; null when none will.
  explicit Round(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}

  bool Ready() override {
    if (connection_->fork_guard_.Forked()) return true;
    absl::MutexLock lock(&connection_->mutex_);
    return done_;
  }

  absl::StatusOr<Moments> Take() override {
    if (absl::Status s = connection_->fork_guard_.Check(); !s.ok()) return s;
    absl::MutexLock lock(&connection_->mutex_);
    if (!connection_->Await([this] { return done_; }, absl::InfiniteFuture(), {})) {
      connection_->interrupted_ = true;
      return InterruptScope::Status(connection_->fixed_->Where() + ": the wait for a result");
    }
    return std::move(result_);
  }

  void End(absl::StatusOr<Moments> result) {
    result_ = std::move(result);
    done_ = true;
  }
  bool done() const { return done_; }
  bool asynchronous() const { return connection_ != nullptr; }
  absl::StatusOr<Moments>& result() { return result_; }

 private:
  const std::shared_ptr<Connection> connection_;
  bool done_ = false;
  absl::StatusOr<Moments> result_;
};

Connection::Connection(std::unique_ptr<Session> session, std::unique_ptr<Transport> transport,
                       Clock* clock)
    : clock_(clock),
      transport_(std::move(transport)),
      session_(std::move(session)),
      fixed_(session_.get()),
      joined_at_first_(session_->joined()) {}

Connection::~Connection() { SYNCNORM_CHECK(!background_.joinable()); }

void Connection::Start() {
  background_ = std::thread([this] { Background(); });
}

void Connection::Send(Outgoing outgoing, Actions* actions) {
  if (writing_) {
    outbox_.push_back(std::move(outgoing));
  } else {
    Write(std::move(outgoing), actions);
  }
  if (!reading_) Read(actions);
}

void Connection::Write(Outgoing outgoing, Actions* actions) {
  writing_ = true;
  ++handed_out_;
  actions->write = true;
  actions->last = outgoing.last;
  actions->bytes = std::move(outgoing.bytes);
}

void Connection::Read(Actions* actions) {
  reading_ = true;
  ++handed_out_;
  actions->read = true;
}

std::shared_ptr<Connection::Round> Connection::Submit(const ReduceKey& key, const Moments& moments,
                                                      bool asynchronous, bool boundary,
                                                      Actions* actions) {
  auto round = std::make_shared<Round>(asynchronous ? shared_from_this() : nullptr);
  if (leaving_ != Leaving::kNo && (session_->phase() == Session::Phase::kJoined ||
                                   session_->phase() == Session::Phase::kAway)) {
    round->End(absl::FailedPreconditionError("layer " + key.layer + ": " + session_->Where() +
                                             " is leaving"));
    return round;
  }
  Outgoing outgoing;
  const absl::StatusOr<uint64_t> number =
      session_->Submit(key, moments, clock_->Now(), &outgoing.bytes, boundary);
  if (!number.ok()) {
    round->End(number.status());
    return round;
  }
  finishing_ = false;
  rounds_.emplace(*number, round);
  asynchronous_ += asynchronous ? 1 : 0;
  if (outgoing.bytes != nullptr) Send(std::move(outgoing), actions);
  return round;
}

MomentsFuture Connection::Reduce(const ReduceKey& key, const Moments& moments) {
  Actions actions;
  std::shared_ptr<Round> round;
  {
    absl::MutexLock lock(&mutex_);
    round = Submit(key, moments, /*asynchronous=*/true, /*boundary=*/false, &actions);
    if (!round->done() && !leading_) background_wake_.Signal();
  }
  Perform(&actions);
  return MomentsFuture(std::move(round));
}

absl::StatusOr<Moments> Connection::ReduceNow(const ReduceKey& key, const Moments& moments,
                                              bool boundary) {
  Actions actions;
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<Round> round =
      Submit(key, moments, /*asynchronous=*/false, boundary, &actions);
  if (!Await([&round] { return round->done(); }, absl::InfiniteFuture(), std::move(actions))) {
    interrupted_ = true;
    return InterruptScope::Status(
        absl::StrCat("layer ", key.layer, ": ", session_->Where(), ": the wait for a result"));
  }
  return std::move(round->result());
}

void Connection::Perform(Actions* actions) {
  if (actions->open) transport_->Open();
  if (actions->write) {
    SYNCNORM_FAILPOINT("client.before_push");
    transport_->Write(std::move(actions->bytes), actions->last);
  }
  if (actions->read) transport_->Read();
  if (actions->cancel) transport_->Cancel();
  // Last: from then on another thread may open the next stream.
  performed_.fetch_add(actions->operations(), std::memory_order_release);
  *actions = Actions();
}

bool Connection::Await(absl::FunctionRef<bool()> done, absl::Time deadline, Actions actions) {
  if (leading_ && actions.any()) {
    mutex_.Unlock();
    Perform(&actions);
    mutex_.Lock();
  }
  while (!done() || actions.any()) {
    if (!leading_) {
      if (!Lead(done, deadline, std::exchange(actions, {}))) return done();
      if (!done() && clock_->Now() >= deadline) return true;
      continue;
    }
    Waiter self(done);
    followers_.push_back(&self);
    bool expired = false, interrupted = false;
    while (!done() && leading_ && !expired && !interrupted) {
      const absl::Time now = clock_->Now();
      const absl::Time until = InterruptScope::NextLook(now, deadline);
      if (until == absl::InfiniteFuture()) {
        self.wake.Wait(&mutex_);
        continue;
      }
      self.wake.WaitWithTimeout(&mutex_, until - now);
      expired = clock_->Now() >= deadline;
      interrupted = Interrupted();
    }
    followers_.erase(std::find(followers_.begin(), followers_.end(), &self));
    if ((expired || interrupted) && !done()) {
      // The last leader may have chosen this one.
      if (!leading_) HandOverLead();
      return !interrupted;
    }
  }
  return true;
}

bool Connection::Interrupted() {
  if (!InterruptScope::active()) return false;
  mutex_.Unlock();
  const bool interrupted = InterruptScope::Interrupted();
  mutex_.Lock();
  return interrupted;
}

bool Connection::Lead(absl::FunctionRef<bool()> done, absl::Time deadline, Actions actions) {
  leading_ = true;
  bool expired = false, interrupted = false;
  absl::Time look = InterruptScope::NextLook(clock_->Now(), absl::InfiniteFuture());
  for (;;) {
    const bool finished = expired || interrupted || done();
    if (finished && !actions.any()) break;
    const absl::Time until = std::min({deadline, WakeAt(), look});
    auto event = Transport::Event::kNothing;
    absl::Status decoded;
    mutex_.Unlock();
    Perform(&actions);
    if (!finished) {
      event = transport_->Next(until);
      if (event == Transport::Event::kMessage) {
        decoded = decoder_.Decode(transport_->message(), &incoming_);
      }
    }
    const absl::Time now = clock_->Now();
    if (now >= look) {
      interrupted = InterruptScope::Interrupted();
      look = InterruptScope::NextLook(now, absl::InfiniteFuture());
    }
    mutex_.Lock();
    if (finished) break;
    Handle(event, decoded, now, &actions);
    expired = event == Transport::Event::kNothing && now >= deadline;
  }
  leading_ = false;
  HandOverLead();
  return !interrupted;
}

void Connection::HandOverLead() {
  if (Waiter* const next = FirstWaiting()) {
    next->wake.Signal();
  } else if (asynchronous_ > 0) {
    background_wake_.Signal();
  }
}

void Connection::Handle(Transport::Event event, const absl::Status& decoded, absl::Time now,
                        Actions* actions) {
  switch (event) {
    case Transport::Event::kNothing:
      session_->Advance(now, &completions_);
      break;
    case Transport::Event::kWritten:
      SYNCNORM_FAILPOINT("client.after_push");
      writing_ = false;
      if (!outbox_.empty()) {
        Write(std::move(outbox_.front()), actions);
        outbox_.pop_front();
      }
      break;
    case Transport::Event::kMessage:
      if (decoded.ok()) {
        const bool was_away = away();
        session_->Receive(&incoming_, transport_->message(), now, &completions_);
        if (was_away && !away()) back_at_ = now;
      } else {
        session_->Garbled(decoded, &completions_);
      }
      reading_ = session_->pending() > 0 || session_->phase() == Session::Phase::kLeft ||
                 session_->phase() == Session::Phase::kAway || session_->finished();
      if (reading_) Read(actions);
      if (std::vector<Bytes> replay = session_->TakeReplay(); !replay.empty()) {
        for (Bytes& bytes : replay) Send({std::move(bytes)}, actions);
      }
      // A stream that breaks as soon as it is joined is one more attempt.
      if (!completions_.empty()) attempts_ = 0;
      break;
    case Transport::Event::kClosed:
      if (!closed_) OnClosed(now);
      break;
  }
  MaybeCancel(actions);
  MaybeReopen(now, actions);
  if (!completions_.empty()) Deliver();
  WakeDone();
}

void Connection::MaybeCancel(Actions* actions) {
  if ((session_->phase() != Session::Phase::kFailed && !abandon_) || cancelled_ || closed_) return;
  cancelled_ = true;
  outbox_.clear();
  if (std::exchange(actions->write, false)) --handed_out_;
  actions->cancel = true;
}

void Connection::OnClosed(absl::Time now) {
  closed_ = true;
  outbox_.clear();
  writing_ = false;
  reading_ = false;
  ended_well_ = transport_->status().ok();
  const bool was_joined = session_->phase() == Session::Phase::kJoined;
  session_->Closed(transport_->status(), now, &completions_);
  retry_at_ = now;
  if (was_joined && now - back_at_ >= kMostToReturn) attempts_ = 0;
  if (attempts_ > 0) retry_at_ += Backoff(attempts_, fixed_->join().rank, kMostToReturn);
  WakeDone();
}

void Connection::MaybeReopen(absl::Time now, Actions* actions) {
  if (!closed_ || !away() || now < retry_at_) return;
  if (performed_.load(std::memory_order_acquire) != handed_out_ || transport_->writing()) {
    retry_at_ = now + kSettleLook;
    return;
  }
  closed_ = false;
  ++attempts_;
  actions->open = true;
  for (Bytes& bytes : session_->Start()) Send({std::move(bytes)}, actions);
}

absl::Time Connection::WakeAt() const {
  const absl::Time deadline = session_->deadline();
  return closed_ && away() ? std::min(deadline, retry_at_) : deadline;
}

void Connection::Deliver() {
  for (Session::Completion& completion : completions_) {
    const auto found = rounds_.find(completion.round);
    SYNCNORM_CHECK(found != rounds_.end());
    asynchronous_ -= found->second->asynchronous() ? 1 : 0;
    found->second->End(std::move(completion.result));
    rounds_.erase(found);
  }
  completions_.clear();
}

void Connection::WakeDone() {
  for (Waiter* const waiter : followers_) {
    if (waiter->done()) waiter->wake.Signal();
  }
}

Connection::Waiter* Connection::FirstWaiting() {
  for (Waiter* const waiter : followers_) {
    if (!waiter->done()) return waiter;
  }
  return nullptr;
}

void Connection::Background() {
  absl::MutexLock lock(&mutex_);
  while (!stopping_) {
    if ((asynchronous_ > 0 || away()) && !leading_ && FirstWaiting() == nullptr) {
      const auto give_way = [this] {
        mutex_.AssertHeld();
        return (asynchronous_ == 0 && !away()) || FirstWaiting() != nullptr || stopping_;
      };
      // While away a thread that comes to wait must be let in soon: it cannot wake this one.
      const absl::Time until = away() ? clock_->Now() + kIdleLook : absl::InfiniteFuture();
      Lead(give_way, until, {});
      continue;
    }
    const bool idle = background_wake_.WaitWithTimeout(&mutex_, kIdleLook);
    const bool watched = session_->phase() == Session::Phase::kJoined && !leading_ &&
                         leaving_ == Leaving::kNo && rounds_.empty() && !stopping_ && !closed_;
    if (!idle || !watched) continue;
    Actions actions;
    if (!reading_) Read(&actions);
    // Looks once: the deadline has passed already.
    Lead([] { return false; }, clock_->Now(), std::move(actions));
  }
}

std::optional<Session::Admission> Connection::TakeAdmission() {
  absl::MutexLock lock(&mutex_);
  return session_->TakeAdmission();
}

Connection::View Connection::view() {
  absl::MutexLock lock(&mutex_);
  return {session_->epoch(), session_->joined().members, session_->joined().hosts};
}

void Connection::HandOver(const absl::StatusOr<std::string>& state) {
  Actions actions;
  absl::MutexLock lock(&mutex_);
  if (session_->phase() != Session::Phase::kJoined) return;
  for (Bytes& bytes : session_->HandOver(state)) Send({std::move(bytes)}, &actions);
  // Leads until all has been written, or the stream has broken: then the others are told.
  const auto sent = [this] {
    mutex_.AssertHeld();
    return !writing_ || closed_ || session_->phase() != Session::Phase::kJoined;
  };
  Await(sent, clock_->Now() + session_->joined().round_timeout, std::move(actions));
}

absl::Status Connection::Finish(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  const absl::Time deadline = clock_->Now() + timeout;
  const auto nothing_pending = [this] {
    mutex_.AssertHeld();
    return rounds_.empty();
  };
  const auto interrupted = [this] {
    mutex_.AssertHeld();
    return InterruptScope::Status(session_->Where() + ": the wait for all to finish");
  };
  if (!Await(nothing_pending, absl::InfiniteFuture(), {})) return interrupted();
  const auto regrouped = [this] {
    mutex_.AssertHeld();
    return !session_->finished() || session_->phase() == Session::Phase::kFailed ||
           session_->phase() == Session::Phase::kLeft;
  };
  Actions actions;
  // All may have finished since a call that timed out.
  const bool member =
      session_->phase() == Session::Phase::kJoined || session_->phase() == Session::Phase::kAway;
  if (!finishing_ || !member || session_->finished()) {
    absl::StatusOr<Bytes> message = session_->Finish();
    if (!message.ok()) return message.status();
    finishing_ = true;
    last_before_finish_ = session_->answered();
    if (*message != nullptr) Send({*std::move(message)}, &actions);
  }
  if (!Await(regrouped, deadline, std::move(actions))) return interrupted();
  if (session_->phase() == Session::Phase::kFailed) return session_->failure();
  if (session_->phase() == Session::Phase::kLeft) {
    return absl::FailedPreconditionError(session_->Where() + " has left");
  }
  if (!session_->finished()) {
    finishing_ = false;
    return absl::OkStatus();
  }
  return absl::DeadlineExceededError(session_->Where() + " has finished, but the others had not " +
                                     "after " + absl::FormatDuration(timeout));
}

uint64_t Connection::last_before_finish() {
  absl::MutexLock lock(&mutex_);
  return last_before_finish_;
}

absl::Status Connection::Leave() {
  absl::MutexLock lock(&mutex_);
  if (leaving_ != Leaving::kNo) {
    mutex_.Await(absl::Condition(
        +[](Connection* self) {
          self->mutex_.AssertHeld();
          return self->leaving_ == Leaving::kDone;
        },
        this));
    return left_;
  }
  leaving_ = Leaving::kUnderWay;
  const auto nothing_pending = [this] {
    mutex_.AssertHeld();
    return rounds_.empty();
  };
  if (interrupted_ || !Await(nothing_pending, absl::InfiniteFuture(), {})) Abandon();
  left_ = EndStream();
  leaving_ = Leaving::kDone;
  return left_;
}

void Connection::Abandon() {
  if (rounds_.empty()) return;
  session_->Abandon(&completions_);
  Deliver();
  WakeDone();
  Actions actions;
  // While the stream is about to be opened it cannot be cancelled; then the leader does.
  if (performed_.load(std::memory_order_acquire) == handed_out_) MaybeCancel(&actions);
  mutex_.Unlock();
  Perform(&actions);
  mutex_.Lock();
}

absl::Status Connection::EndStream() {
  const absl::Time deadline = clock_->Now() + kLeaveTimeout;
  // A coordinator that went down in good order, with all answered, did what Leave asks for.
  const auto in_order = [this] {
    mutex_.AssertHeld();
    return !session_->draining().empty() && !session_->failure_noticed();
  };
  const auto not_away = [this] {
    mutex_.AssertHeld();
    return session_->phase() != Session::Phase::kAway || !session_->draining().empty();
  };
  const auto ended = [this] {
    mutex_.AssertHeld();
    return closed_;
  };
  for (bool said = false;; said = true) {
    Await(not_away, deadline, {});
    if (session_->phase() == Session::Phase::kFailed) {
      // One that has heard it knows this member no longer, and says so.
      return said || in_order() ? absl::OkStatus() : session_->failure();
    }
    if (session_->phase() == Session::Phase::kAway) return GiveUpReturning(in_order());
    Actions actions;
    Send({session_->Leave("leave"), /*last=*/true}, &actions);
    Await(ended, deadline, std::move(actions));
    if (!closed_) {
      return absl::DeadlineExceededError(
          session_->Where() + " left, but the coordinator did not end the stream within " +
          absl::FormatDuration(kLeaveTimeout));
    }
    // Where the stream broke the Leave may have gone with it.
    if (ended_well_ || !session_->ReturnToLeave(clock_->Now())) return absl::OkStatus();
    retry_at_ = clock_->Now();
  }
}

absl::Status Connection::GiveUpReturning(bool in_order) {
  const absl::Status away = session_->Away(clock_->Now());
  session_->Leave("leave");
  abandon_ = true;
  Actions actions;
  // While the stream is about to be opened it cannot be cancelled; then the leader does.
  if (performed_.load(std::memory_order_acquire) == handed_out_) MaybeCancel(&actions);
  mutex_.Unlock();
  Perform(&actions);
  mutex_.Lock();
  return in_order ? absl::OkStatus() : away;
}

void Connection::Shutdown() {
  static_cast<void>(Leave());
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    background_wake_.Signal();
    mutex_.Await(absl::Condition(
        +[](Connection* self) {
          self->mutex_.AssertHeld();
          return !self->leading_;
        },
        this));
  }
  background_.join();
  transport_.reset();
}

}  // namespace syncnorm
