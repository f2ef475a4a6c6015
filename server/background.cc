#include "server/background.h"

#include <utility>

namespace syncnorm::server {

bool Background::Run(std::function<void()> job) {
  absl::MutexLock lock(&mutex_);
  if (stopped_ || jobs_.size() >= kJobs) return false;
  jobs_.push_back(std::move(job));
  if (!thread_.joinable()) thread_ = std::thread([this] { Work(); });
  return true;
}

void Background::Stop() {
  std::thread thread;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    thread = std::exchange(thread_, std::thread());
  }
  if (thread.joinable()) thread.join();
}

void Background::Work() {
  while (true) {
    std::function<void()> job;
    {
      absl::MutexLock lock(&mutex_);
      const auto something = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopped_ || !jobs_.empty();
      };
      mutex_.Await(absl::Condition(&something));
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace syncnorm::server
