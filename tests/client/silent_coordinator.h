// A server that takes a stream and says nothing, or nothing but Joined: what a
// coordinator that hangs looks like to a worker.
#pragma once

#include <memory>
#include <string>

namespace syncnorm {

class SilentCoordinator {
 public:
  enum class Says : int { kNothing, kJoined };

  // Of a world of one, with this round timeout in milliseconds.
  SilentCoordinator(Says says, int round_timeout_ms);
  ~SilentCoordinator();

  std::string address() const;

 private:
  struct Running;
  std::unique_ptr<Running> running_;
};

// A port that takes TCP connections and never says a word.
class SilentPort {
 public:
  SilentPort();
  ~SilentPort();

  std::string address() const;

 private:
  int socket_ = -1;
};

}  // namespace syncnorm
