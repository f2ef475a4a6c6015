// Shell: a coordinator's core, driven as the gRPC service drives it, in virtual
// time: a stream's next message is read only when the last one was answered.
//
//   Open -> Send, Read, Take ... -> closed, by the core or by Disconnect
//
// After every event it requires:
//   * replies go to open streams only, and are messages that a worker can decode;
//   * the core knows exactly the streams that are open;
//   * what the core holds stays within its limits.
// And at the end (Finish): every stream was answered or closed when all timers had run out, and a
// drain leaves none.
//
// With SYNCNORM_FUZZ_LOG=1 it tells on stderr what the core notes and answers.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/coordinator.h"
#include "server/limits.h"
#include "server/output.h"

namespace syncnorm::fuzz {

using server::Bytes;
using server::StreamId;

// Small, so that short inputs reach them.
server::Settings SmallSettings();

class Shell {
 public:
  explicit Shell(const server::Settings& settings);

  StreamId Open();
  bool open(StreamId stream) const;
  // To the core; waits until it is read.
  void Send(StreamId stream, Bytes message);
  // Has the core read one message.  False if none is there, or the last one is unanswered.
  bool Read(StreamId stream);
  // Messages to the worker: the next one, or null.  They outlive the stream.
  Bytes Take(StreamId stream);
  // The stream breaks; the core is told at once, or by Notice.
  void Break(StreamId stream);
  void Notice();
  void Disconnect(StreamId stream);
  void CutOff(StreamId stream);

  void Pass(absl::Duration time);
  // To the core's next deadline; false if there is none.
  bool PassToDeadline();
  void Drain(absl::Duration grace);
  // kill -9, and started again: no stream is left, and nothing is known.
  void Restart();
  // All timers run out, then it drains.
  void Finish();

  absl::Time now() const { return now_; }
  const server::Coordinator& core() const { return *core_; }
  const server::Settings& settings() const { return settings_; }

 private:
  struct Stream {
    bool open = true;     // for the core
    bool broken = false;  // the core does not know yet
    bool unanswered = false;
    bool left = false;  // nothing is read any more
    std::deque<Bytes> in;
    std::deque<Bytes> out;
  };

  void Handle(StreamId stream, const Bytes& message);
  // Takes the core's replies, and requires what the head of this file says.
  void Deliver();
  void CheckBounds() const;
  std::string Time() const;  // since the start

  server::Settings settings_;
  std::unique_ptr<server::Coordinator> core_;
  wire::Codec codec_;
  wire::WorkerMessage from_worker_;
  wire::CoordinatorMessage to_worker_;
  server::Output output_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  StreamId last_ = 0;
  std::map<StreamId, Stream> streams_;
};

}  // namespace syncnorm::fuzz
