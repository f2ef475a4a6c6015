// CoordinatorNode: the machine of the coordinator: the production core under a shell that does what
// server/service.cc does, and is killed, paused, drained and started again.
//
//   kUp <--> paused          events wait
//   kUp --> kDown --> kUp    all state is gone; another coordinator_id
//
// The rule of the service: a stream's next message is read only when the core has
// answered the last Join, Restored or Contribution; what comes meanwhile waits, as in
// the transport's buffers.  Streams that may be read are read in random order.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/coordinator.h"
#include "tests/sim/judge.h"
#include "tests/sim/log.h"
#include "tests/sim/mutation.h"
#include "tests/sim/network.h"
#include "tests/sim/random.h"
#include "tests/sim/timeline.h"

namespace syncnorm::sim {

class CoordinatorNode final : public Acceptor {
 public:
  CoordinatorNode(Timeline* timeline, Network* network, const server::Settings& settings,
                  Judge* judge, Log* log, Mutation mutation, uint64_t seed);

  void Start();
  // kill -9: workers learn of it within `notice`.
  void Kill(absl::Duration notice);
  void Pause();
  void Resume();
  // SIGTERM: down when all is said, a second after `grace` at the latest; then calls `down`.
  void Drain(absl::Duration grace, std::function<void()> down);

  bool up() const { return core_ != nullptr; }
  bool paused() const { return paused_; }
  bool draining() const { return drained_ != nullptr; }
  // Valid while up.
  server::Snapshot snapshot() const { return core_->snapshot(); }

  void OnOpen(Line* line) override;
  void OnMessage(Line* line, const Bytes& bytes) override;
  void OnEnd(Line* line) override;

 private:
  struct Stream {
    Line* line = nullptr;
    std::deque<Bytes> inbox;
    bool unanswered = false;
    bool ready = false;  // in ready_
  };

  void Run(std::function<void()> event);
  // Ends a life: all state is gone.
  void Die(absl::Duration notice);
  void Read();
  void Handle(server::StreamId id, Stream* stream, const Bytes& bytes);
  void Send();
  void Tick();
  void PlanTick();
  void Ready(server::StreamId id, Stream* stream);
  void LogMessage(server::StreamId id);
  // What a planted bug makes of a message, and of an answer.
  void Corrupt(server::StreamId id, wire::WorkerMessage* message);
  Bytes Corrupt(const server::Reply& reply);

  Timeline* const timeline_;
  Network* const network_;
  server::Settings settings_;
  Judge* const judge_;
  Log* const log_;
  const Mutation mutation_;
  Random random_;

  std::unique_ptr<server::Coordinator> core_;
  uint64_t life_ = 0;
  bool paused_ = false;
  std::function<void()> drained_;               // what is called then; null unless draining
  std::vector<std::function<void()>> waiting_;  // while paused
  server::StreamId last_id_ = 0;                // over all lives
  absl::flat_hash_map<server::StreamId, Stream> streams_;
  absl::flat_hash_map<const Line*, server::StreamId> ids_;
  std::vector<server::StreamId> ready_;
  absl::Time tick_at_ = absl::InfiniteFuture();
  server::Output output_;
  wire::Codec codec_;
  wire::WorkerMessage message_;

  // Of planted bugs.
  struct Gathered {
    std::string group;
    std::vector<wire::Contribution> by_arrival;
  };
  std::map<std::pair<std::string, uint64_t>, Gathered> gathered_;
  absl::flat_hash_map<server::StreamId, std::string> group_of_;
  std::map<std::pair<std::string, uint32_t>, std::string> holders_;
};

}  // namespace syncnorm::sim
