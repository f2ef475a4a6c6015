// A transport whose other end is the test: it is told what the worker writes, and says what the
// worker gets.  Holds its caller to the rules of client/transport.h.
//
// With a virtual clock the time passes when nothing else happens (for tests of one thread);
// without, Next waits in real time and any thread may use it as the rules say.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "client/transport.h"
#include "kernels/check.h"
#include "proto/clock.h"
#include "proto/codec.h"
#include "tests/client/fake_transport.h"

namespace syncnorm {

class PeerTransport final : public Transport {
 public:
  explicit PeerTransport(VirtualClock* virtual_clock = nullptr) : virtual_(virtual_clock) {}

  // Called in the thread that opens, is about to write, writes or has posted a Read, without the
  // lock: may use the other end.  A stream that on_open says false to ends at once, as where nobody
  // listens.
  std::function<bool()> on_open = [] { return true; };
  std::function<void(const wire::WorkerMessage&)> on_message = [](const wire::WorkerMessage&) {};
  std::function<void()> before_write = [] {};
  std::function<void()> on_read = [] {};
  // How long a Write takes, in virtual time.
  absl::Duration write_time;

  // The other end.
  void Send(std::string bytes) {
    absl::MutexLock lock(&mutex_);
    if (broken_) return;
    inbox_.push_back(std::move(bytes));
    changed_.SignalAll();
  }
  void Break(absl::Status why = absl::UnavailableError("Socket closed")) {
    absl::MutexLock lock(&mutex_);
    End(std::move(why));
  }
  // When each stream was opened, as the clock says.
  std::vector<absl::Time> opened() {
    absl::MutexLock lock(&mutex_);
    return opened_;
  }
  // Waits until the worker has looked at the network that many more times.
  void AwaitLooks(int more) {
    absl::MutexLock lock(&mutex_);
    const int enough = looks_ + more;
    while (looks_ < enough) changed_.Wait(&mutex_);
  }

  // The stream that a Connection is given: the Join has gone out on it.
  void OpenJoined() {
    Open();
    absl::MutexLock lock(&mutex_);
    written_any_ = true;
  }

  // Waits until the worker waits for the network, and has been told of its Write.
  void AwaitWaiting() {
    absl::MutexLock lock(&mutex_);
    while (!waiting_ || writing_) changed_.Wait(&mutex_);
  }

  void Open() override {
    {
      absl::MutexLock lock(&mutex_);
      SYNCNORM_CHECK(ended_ && !writing_ && !reading_);
      SYNCNORM_CHECK(inside_ == 0);  // nobody uses the last stream any more
      ended_ = broken_ = lost_ = false;
      written_any_ = false;
      inbox_.clear();
      opened_.push_back(Now());
    }
    if (!on_open()) Break(absl::UnavailableError("Connection refused"));
  }

  void Write(Bytes message, bool) override {
    {
      absl::MutexLock lock(&mutex_);
      ++inside_;
    }
    before_write();
    {
      absl::MutexLock lock(&mutex_);
      SYNCNORM_CHECK(!writing_);
      writing_ = true;
      written_any_ = true;
      lost_ = broken_;
    }
    if (!lost()) {
      wire::WorkerMessage decoded;
      SYNCNORM_CHECK(wire::Codec().Decode(*message, &decoded).ok());
      on_message(decoded);
    }
    absl::MutexLock lock(&mutex_);
    --inside_;
    written_ = true;
    changed_.SignalAll();
  }

  void Read() override {
    {
      absl::MutexLock lock(&mutex_);
      SYNCNORM_CHECK(!reading_ && written_any_);
      reading_ = true;
      ++inside_;
      changed_.SignalAll();
    }
    on_read();
    absl::MutexLock lock(&mutex_);
    --inside_;
  }

  void Cancel() override {
    absl::MutexLock lock(&mutex_);
    inbox_.clear();
    End(absl::CancelledError("cancelled"));
  }

  bool writing() const override {
    absl::MutexLock lock(&mutex_);
    return writing_;
  }

  Event Next(absl::Time deadline) override {
    absl::MutexLock lock(&mutex_);
    for (;;) {
      ++looks_;
      changed_.SignalAll();
      const Event event = Look(deadline);
      if (event != Event::kNothing) return event;
      if (virtual_ != nullptr) {
        SYNCNORM_CHECK(deadline != absl::InfiniteFuture());
        virtual_->now = std::max(virtual_->now, deadline);
        return Event::kNothing;
      }
      const absl::Duration left = deadline - MonotonicClock().Now();
      if (left <= absl::ZeroDuration()) return Event::kNothing;
      waiting_ = true;
      changed_.SignalAll();
      changed_.WaitWithTimeout(&mutex_, left);
      waiting_ = false;
    }
  }

  std::string_view message() const override { return message_; }
  const absl::Status& status() const override { return status_; }
  void AwaitRetry(absl::Time) override { SYNCNORM_CHECK(false); }  // of the join only

 private:
  bool lost() const {
    absl::MutexLock lock(&mutex_);
    return lost_;
  }
  Event Look(absl::Time deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (written_) {
      if (virtual_ != nullptr && !broken_) {
        if (virtual_->now + write_time > deadline) return Event::kNothing;
        virtual_->now += write_time;
      }
      written_ = writing_ = false;
      if (ended_) return Event::kClosed;
      // The end of a stream may be told with the Write that it has overtaken.
      if (!lost_ || !reading_) return Event::kWritten;
    }
    if (!reading_) return Event::kNothing;
    if (!inbox_.empty()) {
      reading_ = false;
      message_ = std::move(inbox_.front());
      inbox_.pop_front();
      return Event::kMessage;
    }
    // After a Write that is outstanding.
    if (!broken_ || writing_) return Event::kNothing;
    reading_ = false;
    if (ended_) return Event::kClosed;
    ended_ = true;
    status_ = end_;
    return Event::kClosed;
  }
  void End(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!std::exchange(broken_, true)) end_ = std::move(why);
    changed_.SignalAll();
  }
  absl::Time Now() const { return virtual_ != nullptr ? virtual_->now : MonotonicClock().Now(); }

  VirtualClock* const virtual_;
  mutable absl::Mutex mutex_;
  absl::CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = true;    // the worker knows
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // it ends after what is in the inbox
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool written_ ABSL_GUARDED_BY(mutex_) = false;  // that Write is done
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;     // that Write, the stream being broken
  bool written_any_ ABSL_GUARDED_BY(mutex_) = false;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  int inside_ ABSL_GUARDED_BY(mutex_) = 0;        // threads in Write or Read
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;  // a thread, in Next
  int looks_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::string> inbox_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Time> opened_ ABSL_GUARDED_BY(mutex_);
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  // Of the thread in Next.
  std::string message_;
  absl::Status status_;
};

}  // namespace syncnorm
