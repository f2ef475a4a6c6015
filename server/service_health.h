// ServiceHealth: gRPC's health service (grpc.health.v1), for probes of
// Kubernetes, load balancers and syncnormctl health.
//
//   ""  syncnorm.v1.Coordinator  readiness    SERVING, from a drain's beginning on NOT_SERVING
//   liveness                                  SERVING: to have answered is to be alive
//   any other                                 Check: NOT_FOUND.  Watch: SERVICE_UNKNOWN
//
// "liveness" stays SERVING in a drain: whoever restarts what does not live would cut off the
// rounds that the drain lets finish.
//
// No token is asked for, since a probe has none; with TLS it shows a certificate as everybody
// does.  Nothing of any group is told.
//
// The calls are served from the service's own queue (as in service_admin.h); gRPC's own health
// service would bring a second one.  What callers can hold is bounded: kMaxChecks, kMaxWatches; a
// caller that does not take its answer is cut off after kAnswerTimeout.
//
// Thread-safety: everything on the service's thread.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "proto/clock.h"
#include "proto/health.h"

namespace syncnorm::server {

class ServiceHealth {
 public:
  // Calls of Check that wait for their answer to be taken; more wait in gRPC.
  static constexpr size_t kMaxChecks = 64;
  // Streams of Watch: of some load balancers, each a few KiB.  More are RESOURCE_EXHAUSTED.
  static constexpr size_t kMaxWatches = 64;

  explicit ServiceHealth(Clock* clock);
  ~ServiceHealth();
  ServiceHealth(const ServiceHealth&) = delete;
  ServiceHealth& operator=(const ServiceHealth&) = delete;

  // Before the server is built.
  void AddTo(grpc::ServerBuilder* builder);
  // The server is built: waits for calls on the queue.
  void Start(grpc::ServerCompletionQueue* queue);
  // Now and then.
  void Tick(absl::Time now);

  // A drain begins: tells all Watch streams.
  void Drain();
  // The drain is over: ends all Watch streams.  Whether they have ended; ask again as events come.
  bool Close();

  // The queue shuts down: no operation is started any more.
  void Shut() { shut_ = true; }
  // The queue is shut down: forgets the calls.
  void Clear();

 private:
  class Methods;
  struct Check;
  struct Watch;

  health::ServingStatus StatusOf(const std::string& service) const;
  void Request();  // asks gRPC for the next calls, as far as there is room
  void RequestCheck();
  void RequestWatch();
  void Answer(Check* check);
  void Open(Watch* watch);
  // Starts what the stream needs next, if nothing is under way on it: a status, or its end.
  void Advance(Watch* watch);
  void Finish(Watch* watch, const grpc::Status& status);
  void ForgetIfOver(Watch* watch);

  Clock* const clock_;
  const std::unique_ptr<Methods> methods_;
  grpc::ServerCompletionQueue* queue_ = nullptr;
  bool draining_ = false;
  bool closing_ = false;
  bool shut_ = false;
  uint64_t last_id_ = 0;
  // With the one that gRPC has not filled yet.
  absl::flat_hash_map<uint64_t, std::unique_ptr<Check>> checks_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Watch>> watches_;
  bool check_requested_ = false;
  bool watch_requested_ = false;
};

}  // namespace syncnorm::server
