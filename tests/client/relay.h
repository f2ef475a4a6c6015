// A TCP relay between workers and a coordinator: the network that a test can break.
//
// Thread-safety: thread-safe.
#pragma once

#include <memory>
#include <string>

namespace syncnorm {

class Relay {
 public:
  enum class Direction : int { kToServer, kToClient };

  // Listens on a port of its own, and connects to `target` ("127.0.0.1:port") for each connection.
  explicit Relay(const std::string& target);
  ~Relay();

  std::string address() const;
  // How many connections it has taken so far.
  int connections() const;
  // Ends all connections by RST, to both sides; those that come later live.
  void ResetAll();
  // From now on nothing is forwarded that way, on any connection, and nothing is said of it: what a
  // machine that vanished looks like.
  void Hold(Direction direction);

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace syncnorm
