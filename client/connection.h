// Connection: a joined session over a transport, shared by the threads of a
// process.  The shell around Session: locks, waiting and time.
//
// Who takes answers from the network.  The leader: one thread at a time, the one inside
// Transport::Next.  A thread that waits for a result becomes the leader if
// nobody is, so the answer is read by the thread that needs it.  The others wait as
// followers, are woken when their round ends, and one of them takes over when the
// leader has what it wanted.
//
//   ReduceNow   submits, writes and leads on the calling thread: no other thread is
//               woken, two system calls to send and receive, one to wait.
//   Reduce      writes on the calling thread; the background thread leads while such rounds are
//               under way, unless a waiting thread does, and gives way to one at
//               the next event.
//
// The background thread also looks at the network fifty times a second when nothing is
// under way, so that keepalive is answered and a broken stream is seen while the coordinator still
// waits for this member to come back.
//
// Coming back.  Whoever leads opens a new stream when the one there was broke: at once, then
// after 50 ms, doubling to 250 ms; callers go on waiting, until their deadlines.  A Leave whose
// stream broke is said once more.
//
// Reading.  A Read is posted after a Write, never before: gRPC then sends the
// flow-control update along with the Write instead of in a packet of its own.
// For the same reason none is posted between rounds, except by that look.
//
// Thread-safety: thread-safe.  The mutex is held across no transport call.
#pragma once

#include <syncnorm/reducer.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/fork_guard.h"
#include "client/session.h"
#include "client/transport.h"
#include "proto/clock.h"

namespace syncnorm {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // How long Leave waits for this member to come back if it is away, and for the coordinator to end
  // the stream, after everything submitted was answered.
  static constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);

  // `session` has joined over `transport`, on which nothing is outstanding.
  Connection(std::unique_ptr<Session> session, std::unique_ptr<Transport> transport, Clock* clock);
  // Shutdown was called, or this is a child of a fork (then leak it instead).
  ~Connection();

  // Starts the background thread.
  void Start();

  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments);
  absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments,
                                    bool boundary = false);

  // After a boundary: whom it admitted.
  std::optional<Session::Admission> TakeAdmission();
  // Sends `state` to those that were admitted, or why there is none.
  void HandOver(const absl::StatusOr<std::string>& state);
  // No data is left: waits until all members have finished.
  //   OK; the membership's failure; kFailedPrecondition if the group's policy has no such thing, or
  //   this member leaves meanwhile;
  //   kDeadlineExceeded  others had not finished by then; this member still has, and may ask again.
  absl::Status Finish(absl::Duration timeout);
  // The last round that this member contributed to before it called Finish.
  uint64_t last_before_finish();
  // Who takes part now.
  struct View {
    uint64_t epoch = 0;
    std::vector<uint32_t> members;
    std::vector<std::string> hosts;
  };
  View view();

  // Waits for what is pending, says Leave and waits for the end of the stream.
  //   OK; the membership's failure, if it had failed before;
  //   kCancelled         a wait for what is pending was interrupted: nothing is waited for;
  //   kDeadlineExceeded  the coordinator did not end the stream within kLeaveTimeout;
  //   kUnavailable       this member was away, and did not come back within kLeaveTimeout.
  absl::Status Leave();
  // Leave, then stops everything.  No other call may be under way, except waits for futures.
  void Shutdown();

  // Need no lock: fixed since the join.  Of the session only what never changes after it: join()
  // but for its resume, address(), handed_over().
  const Session& session() const { return *fixed_; }
  const wire::Joined& joined_at_first() const { return joined_at_first_; }
  const ForkGuard& fork_guard() const { return fork_guard_; }

 private:
  class Round;  // the state of a future
  // What is to be done on the transport once the mutex is released.
  struct Actions {
    bool open = false;
    bool write = false;
    bool last = false;
    bool read = false;
    bool cancel = false;
    Bytes bytes;

    bool any() const { return open || write || read || cancel; }
    // Those that must have been performed before the next stream is opened.
    int operations() const { return (write ? 1 : 0) + (read ? 1 : 0); }
  };
  struct Outgoing {
    Bytes bytes;
    bool last = false;
  };
  struct Waiter {
    explicit Waiter(absl::FunctionRef<bool()> until) : done(until) {}
    absl::FunctionRef<bool()> done;
    absl::CondVar wake;
  };

  // Submits, and says what to do on the transport.  On failure the round has ended.
  std::shared_ptr<Round> Submit(const ReduceKey& key, const Moments& moments, bool asynchronous,
                                bool boundary, Actions* actions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Send(Outgoing outgoing, Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(Outgoing outgoing, Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Read(Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Perform(Actions* actions) ABSL_LOCKS_EXCLUDED(mutex_);

  // Blocks until done() (looked at under the mutex), as leader or follower, or until `deadline`.
  // Performs `actions` first.  False: interrupted (interrupt.h), and not done.
  bool Await(absl::FunctionRef<bool()> done, absl::Time deadline, Actions actions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Lead(absl::FunctionRef<bool()> done, absl::Time deadline, Actions actions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Asks this thread's InterruptScope, without the mutex.
  bool Interrupted() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The rounds that are still open go on without this member.
  void Abandon() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes in one event; `decoded` tells whether incoming_ holds a message.
  void Handle(Transport::Event event, const absl::Status& decoded, absl::Time now, Actions* actions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The stream is over: what was to be sent on it is not.
  void OnClosed(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends a stream that is of no use any more.  The coordinator is told by that, so that it can tell
  // the others.
  void MaybeCancel(Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Opens the next stream if that is due, and nothing of the last one is under way.
  void MaybeReopen(absl::Time now, Actions* actions) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // When the leader has something to do though nothing comes.
  absl::Time WakeAt() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether this member waits to come back.
  bool away() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return session_->phase() == Session::Phase::kAway && leaving_ != Leaving::kDone;
  }
  // The leader, or a follower that was to take over, goes: wakes the next one.
  void HandOverLead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the rounds in completions_.
  void Deliver() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeDone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first follower that still waits, or null.
  Waiter* FirstWaiting() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status EndStream() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Leaves without the coordinator's knowledge; `in_order`: which it asked for.
  absl::Status GiveUpReturning(bool in_order) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Background() ABSL_LOCKS_EXCLUDED(mutex_);

  Clock* const clock_;
  const ForkGuard fork_guard_;
  std::unique_ptr<Transport> transport_;  // gone after Shutdown

  absl::Mutex mutex_;
  const std::unique_ptr<Session> session_ ABSL_PT_GUARDED_BY(mutex_);
  const Session* const fixed_;
  const wire::Joined joined_at_first_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<Round>> rounds_ ABSL_GUARDED_BY(mutex_);
  int64_t asynchronous_ ABSL_GUARDED_BY(mutex_) = 0;  // of rounds_
  std::vector<Session::Completion> completions_ ABSL_GUARDED_BY(mutex_);

  std::deque<Outgoing> outbox_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Writes and Reads that were handed out to be performed, and those that were.  While they differ
  // a thread is about to use the stream, or still does.
  uint64_t handed_out_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<uint64_t> performed_{0};
  int attempts_ ABSL_GUARDED_BY(mutex_) = 0;  // to come back, since the last stream that was of use
  absl::Time back_at_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();  // joined again
  absl::Time retry_at_ ABSL_GUARDED_BY(mutex_);
  bool ended_well_ ABSL_GUARDED_BY(mutex_) = false;  // by the coordinator, if closed_
  bool abandon_ ABSL_GUARDED_BY(mutex_) = false;     // left while away: an attempt is to end
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;  // the wait for a round
  // Finish was called and has not returned that all have finished.
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_before_finish_ ABSL_GUARDED_BY(mutex_) = 0;

  bool leading_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Waiter*> followers_ ABSL_GUARDED_BY(mutex_);

  enum class Leaving : uint8_t { kNo, kUnderWay, kDone };
  Leaving leaving_ ABSL_GUARDED_BY(mutex_) = Leaving::kNo;
  absl::Status left_ ABSL_GUARDED_BY(mutex_);

  // The leader's own.
  wire::Codec decoder_;
  wire::CoordinatorMessage incoming_;

  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::CondVar background_wake_;
  std::thread background_;
};

}  // namespace syncnorm
