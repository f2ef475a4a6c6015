// Service: the gRPC shell around the Coordinator.  It decides nothing: it turns
// what comes on the streams into the core's events, and writes the replies.
//
// One thread, one completion queue: at two and more workers this took a half to a third of the CPU
// time that the callback and the synchronous servers took, and the core needs no lock.
//
// Write first, read after.  A stream's next Read is posted only when the answer to its last Join or
// Contribution was given to gRPC to write, and the Reads of a completed round
// only after all its Writes:
//   * A Read that is posted right after a message has come makes the transport
//     announce its flow-control window at once, in a packet of its own; after a
//     Write the announcement rides along (3.3 -> 2.5 sendmsg per round trip).
//   * At most one unanswered contribution per stream is in memory.  What a
//     worker sends beyond waits in the transport's buffers, and then in the
//     worker: back-pressure.  It cannot deadlock: all members submit the
//     same rounds in the same order, so the oldest unanswered round is at the
//     head of every stream, and a member that sends another round there ends
//     it by the mismatch.
// As no Read is pending while a member waits, its death is noticed by the
// notification of the call's end (AsyncNotifyWhenDone).
//
// Results are encoded once; every stream's ByteBuffer refers to that one slice.  A worker that does
// not read its results is cut off when they exceed the queue limits, and named.
//
// The stream's own status is always OK when the coordinator ends it; the reason
// is in the last Failure.
//
// Before the core hears of a stream, and before it hears of a Join, Access is asked; so nothing
// that a stranger is told depends on which groups there are.
//
// Thread-safety: Run() on one thread; Drain, Dump, WaitUntilDrained, snapshot and Stop from any
// other.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "proto/clock.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/access.h"
#include "server/coordinator.h"
#include "server/log.h"
#include "server/output.h"
#include "server/service_admin.h"
#include "server/service_health.h"
#include "server/service_stream.h"
#include "syncnorm/v1/syncnorm.grpc.pb.h"

namespace syncnorm::server {

class Service {
 public:
  // All of them outlive the service.  `admin`: its coordinator_id is taken from the settings.
  // `wall_clock` is for dates of tokens and certificates only.
  Service(const Settings& settings, ServiceAdmin::Options admin, Clock* clock, Security* security,
          Clock* wall_clock);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // Before the server is built: registers the service and its completion queue.
  void AddTo(grpc::ServerBuilder* builder);

  // Once the server is built.  Serves until Stop.
  void Run();

  // See Coordinator::Drain.  Once.
  void Drain(absl::Duration grace);
  // Whether every stream was closed before the time-out.
  bool WaitUntilDrained(absl::Duration timeout) {
    return drained_.WaitForNotificationWithTimeout(timeout);
  }
  // As of now.  Waits for the loop, so not after Stop.
  Snapshot snapshot();
  // See ServiceAdmin; `done` is called on the service's thread.  Not after Stop.
  void CollectVitals(const std::string& group, bool timeline, ServiceAdmin::VitalsDone done);
  // When its thread last looked around, which it does every second; from any thread.
  absl::Time ticked() const { return absl::FromUnixNanos(ticked_ns_.load()); }
  // A report on all groups, to a file or stderr, soon.  Not after Stop.
  void Dump(const std::string& why);
  // After the gRPC server's Shutdown: lets Run return.  Once.
  void Stop();

 private:
  using Operation = ServiceStream::Operation;

  // Runs it in the loop's thread, soon.
  void Post(std::function<void()> run);

  void Request();
  void Dispatch(ServiceStream::Tag* tag, bool ok);
  void Handle(ServiceStream* stream, Operation operation, bool ok);
  void HandleMessage(absl::Time now, ServiceStream* stream, grpc::ByteBuffer* bytes);
  // Whether Access lets the stream go on; if not, it was told why and is closed.
  bool Admit(absl::Time now, ServiceStream* stream, const absl::Status& decision);
  void Tick(absl::Time now);
  // Writes the core's replies, then posts the Reads, then logs.
  void Send(absl::Time now);
  void WriteReplies(absl::Time now);
  void LogNotes(absl::Time now);
  RateLimit* LogLimit(Note::Source source);
  absl::Status Decode(grpc::ByteBuffer* bytes);
  ServiceStream* Find(StreamId id);
  // When to wake if nothing happens, for AsyncNext.
  gpr_timespec WakeAt();

  const Limits limits_;
  Clock* const clock_;
  Access* const access_;
  Clock* const wall_clock_;
  Coordinator coordinator_;
  syncnorm::v1::Coordinator::WithRawMethod_Synchronize<syncnorm::v1::Coordinator::Service> grpc_;
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;

  // Of the loop's thread.
  wire::Codec codec_;
  wire::WorkerMessage message_;  // reused: decoding into it allocates nothing in the steady state
  Output output_;
  absl::flat_hash_map<StreamId, std::unique_ptr<ServiceStream>> streams_;
  StreamId last_id_ = 0;
  absl::Time next_tick_;
  absl::Time wake_time_ = absl::InfinitePast();
  gpr_timespec wake_at_;
  RateLimit group_log_limit_;
  RateLimit stranger_log_limit_;
  RateLimit wait_log_limit_;
  bool running_ = true;

  std::atomic<int64_t> ticked_ns_;
  ServiceHealth health_;
  absl::Notification drained_;
  ServiceAdmin admin_;  // last: it posts to the queue
};

}  // namespace syncnorm::server
