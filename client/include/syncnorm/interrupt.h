// InterruptScope: lets what a thread waits for be given up from outside, as Ctrl-C does.
//
//   {
//     const syncnorm::InterruptScope scope([] { return stop.load(); });
//     group->ReduceNow(...);  // kCancelled within 100 ms of stop
//   }
//
// While a thread is inside a scope, its waits in Group::Connect, ReduceNow, MomentsFuture::Wait,
// AtBoundary and Finish ask `interrupted` every kLook; true ends the call with kCancelled.
// `interrupted` is called in that thread, with no lock held.
//
// What was interrupted goes on without the caller: a contribution counts, its result is dropped.  A
// Leave with such a round still open does not wait for it: to the other members this one is lost.
//
// Scopes may be nested, the innermost counts; each is destroyed in the thread that made it.
//
// Thread-safety: a scope is its thread's; others do not see it.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace syncnorm {

class InterruptScope {
 public:
  // Half of the 100 ms that a person who presses Ctrl-C does not notice; twenty looks a second
  // cost nothing.
  static constexpr absl::Duration kLook = absl::Milliseconds(50);

  explicit InterruptScope(std::function<bool()> interrupted);
  ~InterruptScope();
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

  // Whether this thread is inside one.
  static bool active();
  // Asks the innermost one of this thread; false if there is none.
  static bool Interrupted();
  // Until when to wait at most, of a wait that begins at `now` and ends at `deadline`.
  static absl::Time NextLook(absl::Time now, absl::Time deadline);
  // What an interrupted call returns; `what` it waited for.
  static absl::Status Status(const std::string& what);

 private:
  const std::function<bool()> interrupted_;
  const InterruptScope* const outer_;
};

}  // namespace syncnorm
