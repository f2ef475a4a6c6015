#include "tests/client/relay.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "kernels/check.h"

namespace syncnorm {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

int NewSocket() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  SYNCNORM_CHECK(fd >= 0);
  return fd;
}

void NoDelay(int fd) {
  const int on = 1;
  SYNCNORM_CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
}

void Reset(int fd) {
  const linger now = {.l_onoff = 1, .l_linger = 0};
  SYNCNORM_CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0);
  close(fd);
}

}  // namespace

// One thread that forwards.  It blocks in send where the receiver is slow: both ends of gRPC always
// read.
class Relay::Loop {
 public:
  explicit Loop(int target_port) : target_(Loopback(target_port)) {
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    SYNCNORM_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    SYNCNORM_CHECK(listen(listener_, 64) == 0);
    SYNCNORM_CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~Loop() {
    Tell([this] { stop_ = true; });
    thread_.join();
    for (const Pair& pair : pairs_) close(pair.fd[0]), close(pair.fd[1]);
    close(listener_);
    close(wake_);
  }

  int port() const { return port_; }
  int connections() const { return connections_; }

  void ResetAll() {
    absl::MutexLock lock(&mutex_);
    const int asked = ++resets_asked_;
    Wake();
    while (resets_done_ < asked) done_.Wait(&mutex_);
  }
  void Hold(Direction direction) {
    Tell([this, direction] { held_[static_cast<int>(direction)] = true; });
  }

 private:
  struct Pair {
    int fd[2];  // the worker's, the coordinator's
  };

  template <typename Change>
  void Tell(const Change& change) {
    absl::MutexLock lock(&mutex_);
    change();
    Wake();
  }
  void Wake() {
    const uint64_t one = 1;
    SYNCNORM_CHECK(write(wake_, &one, sizeof(one)) == sizeof(one));
  }

  // Whether to go on.
  bool DoAsTold() {
    absl::MutexLock lock(&mutex_);
    if (resets_done_ < resets_asked_) {
      for (const Pair& pair : pairs_) Reset(pair.fd[0]), Reset(pair.fd[1]);
      pairs_.clear();
      resets_done_ = resets_asked_;
      done_.SignalAll();
    }
    std::copy(std::begin(held_), std::end(held_), std::begin(holding_));
    return !stop_;
  }

  void Run() {
    while (DoAsTold()) {
      std::vector<pollfd> polled = {{wake_, POLLIN, 0}, {listener_, POLLIN, 0}};
      for (const Pair& pair : pairs_) {
        for (const int side : {0, 1}) {
          // One that is held is not even asked whether it has ended.
          polled.push_back({holding_[side] ? -1 : pair.fd[side], POLLIN, 0});
        }
      }
      if (poll(polled.data(), polled.size(), -1) < 0) continue;
      if (polled[0].revents != 0) {
        uint64_t ignored = 0;
        SYNCNORM_CHECK(read(wake_, &ignored, sizeof(ignored)) == sizeof(ignored));
        continue;
      }
      std::vector<Pair> alive;
      for (size_t i = 0; i < pairs_.size(); ++i) {
        bool open = true;
        for (const int side : {0, 1}) {
          if (open && polled[2 + 2 * i + side].revents != 0) open = Forward(pairs_[i], side);
        }
        if (open) {
          alive.push_back(pairs_[i]);
        } else {
          close(pairs_[i].fd[0]), close(pairs_[i].fd[1]);
        }
      }
      pairs_ = std::move(alive);
      if (polled[1].revents != 0) Accept();
    }
  }

  // Whether the connection goes on.
  bool Forward(const Pair& pair, int from) {
    char buffer[64 << 10];
    const ssize_t got = recv(pair.fd[from], buffer, sizeof(buffer), 0);
    if (got <= 0) return false;
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t more = send(pair.fd[1 - from], buffer + sent, got - sent, MSG_NOSIGNAL);
      if (more <= 0) return false;
      sent += more;
    }
    return true;
  }

  void Accept() {
    const int worker = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (worker < 0) return;
    const int coordinator = NewSocket();
    if (connect(coordinator, reinterpret_cast<const sockaddr*>(&target_), sizeof(target_)) != 0) {
      close(coordinator);
      Reset(worker);  // as if nobody listened
      return;
    }
    NoDelay(worker);
    NoDelay(coordinator);
    pairs_.push_back({{worker, coordinator}});
    ++connections_;
  }

  const sockaddr_in target_;
  const int listener_ = NewSocket();
  const int wake_ = eventfd(0, EFD_CLOEXEC);
  int port_ = 0;
  std::atomic<int> connections_{0};

  absl::Mutex mutex_;
  absl::CondVar done_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool held_[2] ABSL_GUARDED_BY(mutex_) = {};
  int resets_asked_ ABSL_GUARDED_BY(mutex_) = 0;
  int resets_done_ ABSL_GUARDED_BY(mutex_) = 0;

  // Of the thread.
  std::vector<Pair> pairs_;
  bool holding_[2] = {};
  std::thread thread_;
};

Relay::Relay(const std::string& target)
    : loop_(std::make_unique<Loop>(std::atoi(target.substr(target.rfind(':') + 1).c_str()))) {}

Relay::~Relay() = default;

std::string Relay::address() const { return "127.0.0.1:" + std::to_string(loop_->port()); }
int Relay::connections() const { return loop_->connections(); }
void Relay::ResetAll() { loop_->ResetAll(); }
void Relay::Hold(Direction direction) { loop_->Hold(direction); }

}  // namespace syncnorm
