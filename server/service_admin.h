// ServiceAdmin: what is told about the coordinator: the Admin calls, the vitals
// for the admin port, the files of failures, and the report on a signal.
//
// Rounds do not wait for it.  The service's thread only copies one group at a
// time out of the core, with the queue's other events in between; making bytes
// and JSON of it and writing files is a Background thread's work.
//
// The calls are served from the service's own queue, not by threads of gRPC's: a
// second queue in the server would be given half of the connections to poll, and
// every round on those would wake another thread.  One Report at a time is
// asked of gRPC, the next when that one is answered; so what
// callers can make the coordinator do at once is bounded, and a caller that
// does not take its answer is cut off after kAnswerTimeout.
//
// Thread-safety: everything on the service's thread, except Stop.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/clock.h"
#include "server/background.h"
#include "server/coordinator.h"
#include "server/dump_files.h"
#include "server/report.h"
#include "server/security.h"
#include "server/vitals.h"
#include "syncnorm/v1/admin.grpc.pb.h"

namespace syncnorm::server {

class ServiceAdmin {
 public:
  // Runs work on the service's thread, soon; from any thread.
  using Post = std::function<void(std::function<void()>)>;

  struct Options {
    uint64_t coordinator_id = 0;
    std::string dump_dir;            // empty: failures make no files, and Dump goes to stderr
    std::function<void()> on_drain;  // asks for the end; null: nobody may
  };

  // `coordinator`, the clocks and `security` outlive it.
  ServiceAdmin(const Coordinator* coordinator, Clock* clock, Clock* wall_clock, Security* security,
               Post post, Options options);
  ~ServiceAdmin();
  ServiceAdmin(const ServiceAdmin&) = delete;
  ServiceAdmin& operator=(const ServiceAdmin&) = delete;

  // Before the server is built.
  void AddTo(grpc::ServerBuilder* builder) { builder->RegisterService(&grpc_); }
  // The server is built: waits for calls on the queue.
  void Start(grpc::ServerCompletionQueue* queue);
  // Now and then.
  void Tick(absl::Time now);

  // Writes the report of a failure.
  void Write(Report incident);
  // Writes a report on all groups, to a file or to stderr.
  void Dump(const std::string& why);
  // Of the groups of that name, or all for "".  kNotFound: there is no such group;  kUnavailable:
  // the service stops.
  using VitalsDone = std::function<void(absl::StatusOr<std::shared_ptr<const Vitals>>)>;
  void CollectVitals(const std::string& group, bool timeline, VitalsDone done);

  // From any thread: finishes what is being written; posts nothing from then on, except from the
  // service's thread until Shut.
  void Stop() { background_.Stop(); }
  // The queue shuts down: no operation is started any more.
  void Shut() { shut_ = true; }
  // The queue is shut down: forgets the calls.
  void Clear();

 private:
  enum class Method : uint8_t { kReport, kStatus, kVitals, kDrain };
  struct Call;
  struct Collection;

  void Request(Method method);
  void Handle(Call* call);
  void HandleReport(Call* call);
  void HandleStatus(Call* call);
  void HandleVitals(Call* call);
  void HandleDrain(Call* call);
  void Finish(uint64_t call, const grpc::Status& status, const std::string& bytes);
  void Fail(uint64_t call, const absl::Status& status);
  // Answers with bytes that are made of it on the background's thread.
  template <typename Value>
  void Reply(uint64_t call, std::shared_ptr<Value> value);
  // Whether the caller has that role for the group, "" being all; answers it if not.
  bool Permit(Call* call, Role role, const std::string& group);
  Status StatusNow();

  // What of the groups is wanted.
  struct Extent {
    size_t rounds = 0;
    bool timeline = false;
  };
  using ReportDone = std::function<void(std::shared_ptr<Report>)>;
  // kNotFound: there is no group of that name.
  absl::StatusOr<std::vector<uint64_t>> GroupsNamed(const std::string& name) const;
  // Copies these groups and hands the report on, in the service's thread; null: the service stops.
  void Collect(std::vector<uint64_t> groups, Extent extent, std::string why, ReportDone done);
  void CollectNext(std::shared_ptr<Collection> collection);

  const Coordinator* const coordinator_;
  const Options options_;
  Clock* const clock_;
  Clock* const wall_clock_;
  Security* const security_;
  const Post post_;
  const absl::Time started_;
  syncnorm::v1::Admin::WithRawMethod_Report<
      syncnorm::v1::Admin::WithRawMethod_Status<syncnorm::v1::Admin::WithRawMethod_Vitals<
          syncnorm::v1::Admin::WithRawMethod_Drain<syncnorm::v1::Admin::Service>>>>
      grpc_;
  grpc::ServerCompletionQueue* queue_ = nullptr;
  bool shut_ = false;
  uint64_t last_call_ = 0;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Call>> calls_;
  bool dumping_ = false;  // a Dump is on its way: another would tell the same
  DumpFiles files_;
  Background background_;  // last: its jobs use the others
};

}  // namespace syncnorm::server
