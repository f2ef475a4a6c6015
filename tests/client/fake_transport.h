// A transport without a network, and a clock that moves when it is waited on.
//
// Each Open takes the next Script: what happens after the Join has been
// written.  When a script has nothing more to tell, Next lets the time pass to its deadline.
//
// Thread-safety: none; one thread.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "client/transport.h"
#include "kernels/check.h"
#include "proto/clock.h"
#include "proto/codec.h"

namespace syncnorm {

class VirtualClock final : public Clock {
 public:
  absl::Time Now() override { return now; }
  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
};

class FakeTransport final : public Transport {
 public:
  struct Script {
    bool reached = true;                // the first Write goes out
    absl::Duration delay;               // before the answer, or the end
    std::vector<std::string> messages;  // the answers
    absl::Status end;                   // then the stream ends, unless OK
  };

  explicit FakeTransport(VirtualClock* clock) : clock_(clock) {}

  std::deque<Script> scripts;
  std::vector<std::string> written;
  std::vector<absl::Duration> retries;  // how long each AwaitRetry took

  void Open() override {
    SYNCNORM_CHECK(!open_);
    open_ = true;
    cancelled_ = false;
    reading_ = false;
    events_.clear();
    script_ = {};
    script_.reached = false;
    if (!scripts.empty()) {
      script_ = scripts.front();
      scripts.pop_front();
    }
  }
  void Write(Bytes message, bool) override {
    written.push_back(*message);
    if (script_.reached) events_.push_back(Event::kWritten);
  }
  bool writing() const override { return false; }
  void Read() override {
    SYNCNORM_CHECK(!reading_);
    reading_ = true;
  }
  void Cancel() override { cancelled_ = true; }

  Event Next(absl::Time deadline) override {
    if (cancelled_) return Close(absl::CancelledError("cancelled"));
    if (!events_.empty()) {
      const Event event = events_.front();
      events_.pop_front();
      return event;
    }
    const bool more = !script_.messages.empty() || !script_.end.ok();
    if (!more || clock_->now + script_.delay > deadline) {
      SYNCNORM_CHECK(deadline != absl::InfiniteFuture());
      script_.delay -= deadline - clock_->now;  // what is left of it
      clock_->now = deadline;
      return Event::kNothing;
    }
    clock_->now += script_.delay;
    SYNCNORM_CHECK(reading_);
    if (script_.messages.empty()) return Close(script_.end);
    reading_ = false;
    message_ = script_.messages.front();
    script_.messages.erase(script_.messages.begin());
    return Event::kMessage;
  }

  std::string_view message() const override { return message_; }
  const absl::Status& status() const override { return status_; }

  void AwaitRetry(absl::Time deadline) override {
    retries.push_back(deadline - clock_->now);
    clock_->now = deadline;
  }

 private:
  Event Close(absl::Status why) {
    SYNCNORM_CHECK(reading_);
    open_ = false;
    status_ = std::move(why);
    return Event::kClosed;
  }

  VirtualClock* const clock_;
  Script script_;
  std::deque<Event> events_;
  bool open_ = false, reading_ = false, cancelled_ = false;
  std::string message_;
  absl::Status status_;
};

}  // namespace syncnorm
