// Background: a thread for work that may take long - making a large report's
// bytes, writing to a disk that is slow - so that the thread that serves rounds
// does not wait for it.  Made when the first work comes.
//
// Bounded: kJobs wait; more are refused.
//
// Thread-safety: thread-safe; a job may give more work.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace syncnorm::server {

class Background {
 public:
  // A failed group makes one every ten seconds; 16 groups that fail at once are one job's end. Each
  // holds a report, usually below 1 MiB.
  static constexpr size_t kJobs = 16;

  Background() = default;
  ~Background() { Stop(); }
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // In the order of the calls, one after the other.  False if too many wait, or after Stop: then
  // the job was not taken.
  bool Run(std::function<void()> job) ABSL_LOCKS_EXCLUDED(mutex_);
  // Does what waits, then ends the thread.  May be called again, not by a job.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Mutex mutex_;
  std::deque<std::function<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace syncnorm::server
