// The floor: a star over plain TCP that does the same work as a coordinator and
// nothing else.  One epoll thread; frames of a fixed size; contributions are
// encoded before the clock starts; the server folds the ranks that have arrived
// in rank order while it waits for the others.  No keys, groups, deadlines,
// retries or members: what those cost is what the ratio to this lane shows.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "bench/latency/lane.h"
#include "bench/latency/process.h"
#include "bench/latency/workload.h"

namespace syncnorm::bench {
namespace {

// A frame is this, then C means (float64), then C M2 (float32), in the byte
// order of the machine.  A reply has the fold of all ranks, and rank 0.
struct Header {
  uint64_t rank = 0;
  uint64_t round = 0;
  uint64_t count = 0;
  std::array<uint64_t, 5> reserved = {};  // where a real key would be
};
static_assert(sizeof(Header) == kFoldHeaderBytes);

void SetNoDelay(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

absl::StatusOr<sockaddr_in> MakeAddress(const std::string& ip, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, ip.c_str(), &address.sin_addr) != 1) {
    return absl::InvalidArgumentError(absl::StrCat("not an IPv4 address: ", ip));
  }
  return address;
}

absl::Status SendAll(int fd, const std::vector<char>& frame) {
  for (size_t sent = 0; sent < frame.size();) {
    const ssize_t n = send(fd, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    if (n < 0) return absl::ErrnoToStatus(errno, "send");
    sent += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

// ---- the server ----

class StarServer {
 public:
  explicit StarServer(const Cell& cell)
      : channels_(cell.channels),
        peers_(cell.workers),
        mean_(cell.channels),
        m2_(cell.channels),
        reply_(FoldPayloadBytes(cell.channels)) {
    for (Peer& peer : peers_) peer.frame.resize(FoldPayloadBytes(channels_));
    by_rank_.resize(peers_.size());
  }

  absl::Status Serve(const std::string& ip, const std::string& port_path) {
    if (absl::Status status = AcceptAll(ip, port_path); !status.ok()) return status;
    size_t connected = peers_.size();
    std::vector<epoll_event> events(peers_.size());
    while (connected > 0) {
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < n; ++i) {
        absl::StatusOr<bool> open = Receive(static_cast<Peer*>(events[i].data.ptr));
        if (!open.ok()) return open.status();
        if (!*open) --connected;
      }
    }
    return absl::OkStatus();
  }

 private:
  struct Peer {
    int fd = -1;
    std::vector<char> frame;
    size_t received = 0;
  };

  absl::Status AcceptAll(const std::string& ip, const std::string& port_path) {
    absl::StatusOr<sockaddr_in> address = MakeAddress(ip, 0);
    if (!address.ok()) return address.status();
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const absl::Cleanup close_listener = [listener] { close(listener); };
    socklen_t size = sizeof(*address);
    auto* generic = reinterpret_cast<sockaddr*>(&*address);
    if (bind(listener, generic, size) != 0 || getsockname(listener, generic, &size) != 0 ||
        listen(listener, static_cast<int>(peers_.size())) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", ip));
    }
    std::ofstream(port_path) << ntohs(address->sin_port) << "\n";

    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    for (Peer& peer : peers_) {
      peer.fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (peer.fd < 0) return absl::ErrnoToStatus(errno, "accept");
      SetNoDelay(peer.fd);
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.ptr = &peer;
      if (epoll_ctl(epoll_, EPOLL_CTL_ADD, peer.fd, &event) != 0) {
        return absl::ErrnoToStatus(errno, "epoll_ctl");
      }
    }
    return absl::OkStatus();
  }

  // Reads what there is; a complete frame is handled.  False: the peer left.
  absl::StatusOr<bool> Receive(Peer* peer) {
    const ssize_t n = recv(peer->fd, peer->frame.data() + peer->received,
                           peer->frame.size() - peer->received, MSG_DONTWAIT);
    if (n == 0 && peer->received == 0) {
      close(peer->fd);
      return false;
    }
    if (n <= 0) return absl::ErrnoToStatus(n == 0 ? EPIPE : errno, "recv");
    peer->received += static_cast<size_t>(n);
    if (peer->received < peer->frame.size()) return true;
    peer->received = 0;
    if (absl::Status status = Contribute(peer); !status.ok()) return status;
    return true;
  }

  absl::Status Contribute(Peer* peer) {
    Header header;
    std::memcpy(&header, peer->frame.data(), sizeof(header));
    if (header.rank >= by_rank_.size() || by_rank_[header.rank] != nullptr ||
        header.round != round_) {
      return absl::InvalidArgumentError("a worker is out of step");
    }
    by_rank_[header.rank] = peer;
    while (folded_ < by_rank_.size() && by_rank_[folded_] != nullptr) {
      FoldNext(by_rank_[folded_]->frame);
      ++folded_;
    }
    return folded_ < by_rank_.size() ? absl::OkStatus() : Complete();
  }

  // Chan's update in double, in rank order.
  void FoldNext(const std::vector<char>& frame) {
    Header header;
    std::memcpy(&header, frame.data(), sizeof(header));
    const auto* mean = reinterpret_cast<const double*>(frame.data() + sizeof(header));
    const auto* m2 = reinterpret_cast<const float*>(mean + channels_);
    const double before = static_cast<double>(count_);
    const double part = static_cast<double>(header.count);
    const double share = part / (before + part);
    for (int64_t c = 0; c < channels_; ++c) {
      const double delta = mean[c] - mean_[c];
      mean_[c] += delta * share;
      m2_[c] += static_cast<double>(m2[c]) + delta * delta * before * share;
    }
    count_ += header.count;
  }

  absl::Status Complete() {
    const Header header = {.round = round_, .count = count_};
    std::memcpy(reply_.data(), &header, sizeof(header));
    auto* mean = reinterpret_cast<double*>(reply_.data() + sizeof(header));
    auto* m2 = reinterpret_cast<float*>(mean + channels_);
    std::memcpy(mean, mean_.data(), sizeof(double) * mean_.size());
    for (int64_t c = 0; c < channels_; ++c) m2[c] = static_cast<float>(m2_[c]);
    for (Peer*& peer : by_rank_) {
      // Blocking: every worker is reading by now.
      if (absl::Status status = SendAll(peer->fd, reply_); !status.ok()) return status;
      peer = nullptr;
    }
    ++round_;
    folded_ = 0;
    count_ = 0;
    std::fill(mean_.begin(), mean_.end(), 0.0);
    std::fill(m2_.begin(), m2_.end(), 0.0);
    return absl::OkStatus();
  }

  const int64_t channels_;
  std::vector<Peer> peers_;  // in the order of their connecting
  int epoll_ = -1;

  uint64_t round_ = 0;
  std::vector<Peer*> by_rank_;  // who has contributed to this round
  size_t folded_ = 0;           // ranks 0..folded_-1 are in mean_ and m2_
  uint64_t count_ = 0;
  std::vector<double> mean_, m2_;
  std::vector<char> reply_;
};

// ---- a worker ----

class StarWorker : public WorkerEnd {
 public:
  StarWorker(int fd, const Cell& cell, int rank)
      : fd_(fd), workers_(cell.workers), channels_(cell.channels) {
    for (int phase = 0; phase < kPhases; ++phase) {
      const MomentRows rows = MakeMoments(channels_, rank, phase);
      std::vector<char>& frame = frames_[phase];
      frame.resize(FoldPayloadBytes(channels_));
      const Header header = {.rank = static_cast<uint64_t>(rank), .count = rows.count};
      std::memcpy(frame.data(), &header, sizeof(header));
      char* body = frame.data() + sizeof(header);
      std::memcpy(body, rows.mean.data(), sizeof(double) * channels_);
      std::memcpy(body + sizeof(double) * channels_, rows.m2.data(), sizeof(float) * channels_);
    }
    reply_.resize(FoldPayloadBytes(channels_));
  }
  ~StarWorker() override { close(fd_); }

  void Prepare(int phase) override {
    frame_ = &frames_[phase];
    std::memcpy(frame_->data() + offsetof(Header, round), &round_, sizeof(round_));
  }

  absl::Status Exchange() override {
    if (absl::Status status = SendAll(fd_, *frame_); !status.ok()) return status;
    const ssize_t n = recv(fd_, reply_.data(), reply_.size(), MSG_WAITALL);
    if (n != static_cast<ssize_t>(reply_.size())) {
      return absl::ErrnoToStatus(n < 0 ? errno : EPIPE, "recv");
    }
    return absl::OkStatus();
  }

  absl::Status Check(int phase) override {
    Header header;
    std::memcpy(&header, reply_.data(), sizeof(header));
    if (header.round != round_) return absl::DataLossError("the reply is of another round");
    ++round_;
    const absl::Span<const char> body = absl::MakeConstSpan(reply_).subspan(sizeof(header));
    return result_check_.Check(phase, body, [&] {
      const auto* mean = reinterpret_cast<const double*>(body.data());
      const auto* m2 = reinterpret_cast<const float*>(mean + channels_);
      return CheckMoments(workers_, phase, header.count, {mean, static_cast<size_t>(channels_)},
                          std::vector<double>(m2, m2 + channels_));
    });
  }

 private:
  const int fd_;
  const int workers_;
  const int64_t channels_;
  std::array<std::vector<char>, kPhases> frames_;
  std::vector<char>* frame_ = nullptr;
  std::vector<char> reply_;
  uint64_t round_ = 0;
  ResultCheck result_check_;
};

class TcpStarLane : public Lane {
 public:
  std::string name() const override { return "tcp_star"; }
  int64_t PayloadBytes(int64_t channels) const override { return FoldPayloadBytes(channels); }
  absl::Status Available(const Place&) const override { return absl::OkStatus(); }

  std::vector<std::string> CoordinatorCommand(const Cell& cell, const std::string& address,
                                              const std::string& dir) const override {
    const RoleOptions options = {
        .role = "coordinator", .lane = name(), .cell = cell, .own_address = address, .dir = dir};
    return {OwnProgram(), RoleArgument(options)};
  }

  absl::Status Coordinate(const RoleOptions& options) const override {
    return StarServer(options.cell).Serve(options.own_address, PortPath(options.dir));
  }

  absl::StatusOr<std::unique_ptr<WorkerEnd>> Connect(const RoleOptions& options) const override {
    const std::vector<std::string> parts = absl::StrSplit(options.coordinator_address, ':');
    int port;
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &port)) {
      return absl::InvalidArgumentError("no coordinator address");
    }
    absl::StatusOr<sockaddr_in> address = MakeAddress(parts[0], port);
    if (!address.ok()) return address.status();
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SetNoDelay(fd);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
      const int error = errno;
      close(fd);
      return absl::ErrnoToStatus(error, "connect");
    }
    return std::make_unique<StarWorker>(fd, options.cell, options.rank);
  }
};

}  // namespace

std::unique_ptr<Lane> MakeTcpStarLane() { return std::make_unique<TcpStarLane>(); }

}  // namespace syncnorm::bench
