// Network: lines between the workers' machines and the coordinator's, as TCP and
// gRPC carry a stream: each direction is reliable and in order, until the line breaks.
//
//   Open --> the coordinator accepts, or the line is refused --> messages --> the end, seen by
//                                                                each side at its own time
//
// What can go wrong with a line:
//   Break   messages under way are lost from a random point on, in each direction; each side
//           is told of the end after a time of its own, or not at all (half-open)
//   Block   a machine's packets in one direction are held until it is lifted; gRPC's keepalive
//           ends lines that are held for long, on the side that misses the answers
//   Refuse  nobody listens
//
// Lines live until the network goes, so that pointers to them stay good.
//
// Thread-safety: thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"

namespace syncnorm::sim {

// Up: to the coordinator.
enum class Way : uint8_t { kUp = 0, kDown = 1 };
constexpr Way kWays[] = {Way::kUp, Way::kDown};

using Bytes = std::shared_ptr<const std::string>;

class Line;

// The worker's end.
class Caller {
 public:
  virtual ~Caller() = default;
  virtual void OnOpened(Line* line) = 0;  // the first write went out: somebody listens
  virtual void OnMessage(Line* line, const Bytes& bytes) = 0;
  virtual void OnClosed(Line* line, const absl::Status& status) = 0;
};

// The coordinator's end, for all lines.
class Acceptor {
 public:
  virtual ~Acceptor() = default;
  virtual void OnOpen(Line* line) = 0;
  virtual void OnMessage(Line* line, const Bytes& bytes) = 0;
  virtual void OnEnd(Line* line) = 0;
};

class Line {
 public:
  uint64_t id() const { return id_; }
  uint32_t machine() const { return machine_; }
  // Messages that the other side has not received.
  size_t under_way(Way way) const { return ways_[static_cast<size_t>(way)].items.size(); }

 private:
  friend class Network;
  struct Item {
    enum class Kind : uint8_t { kOpen, kMessage, kEnd };
    Kind kind = Kind::kMessage;
    absl::Time arrival;
    Bytes bytes;
    absl::Status status;
  };
  struct Direction {
    std::deque<Item> items;
    absl::Time last = absl::InfinitePast();  // arrival of the last item
    bool planned = false;                    // the front's delivery
    bool sealed = false;                     // nothing is sent any more
    bool deaf = false;                       // the receiver is gone, or has been told the end
  };

  uint64_t id_ = 0;
  uint32_t machine_ = 0;
  Caller* caller_ = nullptr;
  bool opened_ = false;   // or not waited for any more
  bool arrived_ = false;  // its first packet has reached the coordinator's machine
  std::array<Direction, 2> ways_;
};

struct NetworkPlan {
  absl::Duration least = absl::Microseconds(50);  // of a message, one way
  absl::Duration most = absl::Microseconds(200);
  double spike_chance = 0;  // a message takes up to `spike` longer, and what follows behind it
  absl::Duration spike = absl::ZeroDuration();
  // As the client sets (client/grpc_transport.cc).
  absl::Duration connect_timeout = absl::Seconds(5);
  absl::Duration caller_keepalive = absl::Seconds(15);
  // As the server sets (server/channel.cc): asks after 10 s, waits for 20 s.
  absl::Duration acceptor_keepalive = absl::Seconds(30);
};

class Network {
 public:
  Network(Timeline* timeline, const NetworkPlan& plan, uint64_t seed);
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Who listens; null: lines are refused.
  void Listen(Acceptor* acceptor) { acceptor_ = acceptor; }

  Line* Open(uint32_t machine, Caller* caller);
  void SendUp(Line* line, Bytes bytes) { Send(line, Way::kUp, std::move(bytes)); }
  void SendDown(Line* line, Bytes bytes) { Send(line, Way::kDown, std::move(bytes)); }
  // The coordinator ends the line after what it has sent; the worker cancels it.
  void EndDown(Line* line);
  void Cancel(Line* line);
  // The worker says that nothing more will come.
  void HalfClose(Line* line);

  // Breaks the line now; each side is told after its notice (Infinite: never).
  void Break(Line* line, absl::Duration caller_notice, absl::Duration acceptor_notice);
  // The processes of one side are gone: nothing is delivered to it any more.  The other side is
  // told after `notice`.
  void CallerDies(Line* line, absl::Duration notice);
  void AcceptorDies(absl::Duration least_notice, absl::Duration most_notice);

  // Holds a machine's packets; calls nest.
  void Block(uint32_t machine, Way way);
  void Unblock(uint32_t machine, Way way);
  // One side has not answered for so long that the other gives the machine's lines up, if it is
  // still so after the keepalive.
  void KeepaliveOfCaller(uint32_t machine, std::function<bool()> still);
  void KeepaliveOfAcceptor(uint32_t machine, std::function<bool()> still);

  // Open lines of the machine.
  std::vector<Line*> LinesOf(uint32_t machine);
  bool alive(const Line* line) const { return !line->ways_[0].sealed && !line->ways_[1].sealed; }
  uint64_t opened() const { return lines_.size(); }

 private:
  Line::Direction& At(Line* line, Way way) { return line->ways_[static_cast<size_t>(way)]; }
  bool Blocked(const Line* line, Way way) const;
  void Send(Line* line, Way way, Bytes bytes);
  void Append(Line* line, Way way, Line::Item item, absl::Duration wait);
  void Plan(Line* line, Way way);
  void Deliver(Line* line, Way way);
  void Truncate(Line::Direction* direction);
  // The worker waits for the line's opening no more: if it has not arrived yet, it never will.
  void StopOpening(Line* line);
  // The receiver of that way gives up: it is told now, and what it sends back says so.
  void GiveUp(Line* line, Way way, const std::string& why);
  absl::Duration Delay();

  Timeline* const timeline_;
  const NetworkPlan plan_;
  Random random_;
  Acceptor* acceptor_ = nullptr;
  std::deque<Line> lines_;
  std::map<uint32_t, std::vector<Line*>> of_machine_;
  std::map<uint32_t, std::array<int, 2>> blocked_;
};

}  // namespace syncnorm::sim
