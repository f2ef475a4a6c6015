// Coordinator: all groups and all streams; the decisions of the server, as a
// state machine.  Each event comes with its time and its stream; what is to be
// sent and logged is appended to an Output.  It knows no gRPC, no threads, no
// locks and no clock, so that a simulator runs exactly what production runs.
//
//   a stream:   OnOpen -> OnJoin -> OnContribution ... -> OnLeave
//                 |          |            |                  |
//                 +----------+------------+------------------+--> OnDisconnect, at any time
//
//   a worker whose stream broke:   OnOpen -> OnJoin (resume) -> OnRestored ... -> as above
//
// Callers may rely on:
//   * Every OnJoin, OnRestored and OnContribution is answered, then or later, by one
//     reply with `answer` set (a contribution that repeats one still
//     unanswered shares its answer), or the stream is closed.  The shell reads a stream's next
//     message after that.
//   * A worker that resumes a run which this coordinator does not know, as it was started
//     again since, finds it again, when all of its members have resumed.  A run that
//     this coordinator has seen end stays over.
//   * A stream is forgotten with the reply that closes it: what comes on it
//     afterwards is ignored.
//   * A reply's bytes are shared: one encoding per result.
//   * Groups do not affect one another.
//   * Memory is bounded by limits.h.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/failure.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/group.h"
#include "server/incident_limit.h"
#include "server/limits.h"
#include "server/output.h"
#include "server/report.h"
#include "server/rounds.h"

namespace syncnorm::server {

struct Settings {
  Limits limits;
  Timeouts timeouts;
  // Tells this life of the coordinator from another: random.
  uint64_t coordinator_id = 0;
  // Whether Output::incidents is filled.
  bool report_incidents = false;
};

// What there is now, and what has been since the start.
struct Snapshot {
  uint64_t streams = 0;
  uint64_t groups = 0;
  uint64_t members = 0;
  uint64_t away = 0;  // members whose stream broke, and who may come back
  uint64_t open_rounds = 0;
  uint64_t open_bytes = 0;
  uint64_t kept_rounds = 0;
  uint64_t kept_bytes = 0;
  uint64_t epochs = 0;  // the last that was issued
  bool draining = false;
  RoundCounters rounds;  // of all groups, past ones too
};

class Coordinator {
 public:
  // Failures that are told: several groups' worth of one bad night, 64 x 0.6 KiB.
  static constexpr size_t kKeptFailures = 64;

  explicit Coordinator(Settings settings);
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  // A new stream.  It is closed if it does not join in time, or if there are too many.
  void OnOpen(absl::Time now, StreamId stream, Output* output);
  void OnJoin(absl::Time now, StreamId stream, const wire::Join& join, Output* output);
  // May take the values out of `contribution`.
  void OnContribution(absl::Time now, StreamId stream, wire::Contribution* contribution,
                      Output* output);
  void OnRestored(absl::Time now, StreamId stream, const wire::Restored& restored, Output* output);
  void OnFinish(absl::Time now, StreamId stream, Output* output);
  void OnHandover(absl::Time now, StreamId stream, const wire::Handover& handover, Output* output);
  void OnLeave(absl::Time now, StreamId stream, const wire::Leave& leave, Output* output);
  // The stream sent what is not a message; `what` says why not.  It is told, and closed.
  void OnMalformed(absl::Time now, StreamId stream, absl::string_view what, Output* output);
  // The stream is over without a Leave; its worker may come back on another one.
  void OnDisconnect(absl::Time now, StreamId stream, Output* output);
  // The shell ends the stream; `how` completes "rank 2 (host h, pid 1) ...", e.g. "does not read".
  void OnCutOff(absl::Time now, StreamId stream, absl::string_view how, Output* output);

  // Fails what has waited too long.  Called at NextDeadline() or later; may be called at any time.
  void OnTick(absl::Time now, Output* output);
  // No later than the next thing that OnTick would do.
  absl::Time NextDeadline() const { return next_deadline_; }

  // Tells every stream that the coordinator is going down, refuses joins and new rounds, and lets
  // open rounds finish, for at most `grace`.  A group's streams are closed when its last round has
  // finished; where some members have left, the others are given the same time to leave.
  void Drain(absl::Time now, absl::Duration grace, Output* output);
  // After Drain: no stream is left.
  bool drained() const { return draining_ && streams_.empty(); }

  Snapshot snapshot() const;

  // The groups of that name, or all for "": ids for ReportOn, in order of making.  A name has
  // several while an epoch that ended still has streams.
  std::vector<uint64_t> GroupsNamed(const std::string& name) const;
  // With the latest `rounds` rounds, and the timeline if wanted.  None if the group is no more. One
  // group at a time, so that rounds need not wait until all have been copied.
  std::optional<Report::Group> ReportOn(absl::Time now, uint64_t group, size_t rounds,
                                        bool timeline) const;
  // Of all groups, past ones too; the latest first.
  const std::deque<Report::Failure>& failures() const { return failures_; }

 private:
  struct Stream {
    Group* group = nullptr;  // null until joined
    uint32_t rank = 0;
    absl::Time hello_deadline;
  };

  // Why no group could take this worker; OK if one might.
  absl::Status Check(const wire::Join& join) const;
  // The group that a worker of that name joins; null if there is none.
  Group* Find(const std::string& name) const;
  // The group of that name whose run it is, and where it may be resumed; null if there is none.
  Group* FindRun(const std::string& name, uint64_t run) const;
  // Whether there may be one group more; otherwise the stream is refused.
  bool HasRoom(StreamId stream, const wire::Join& join, Output* output);
  Group* Make(absl::Time now, const wire::Join& join);
  // Why the run that the worker wants to resume is over; none if it may be resumed.
  std::optional<Failure> Over(const wire::Join& join) const;
  // Tells the stream why and closes it.
  void TurnAway(StreamId stream, const Failure& failure, Output* output);
  // The same, and notes it.
  void Refuse(StreamId stream, const Failure& failure, Output* output);
  // The stream breaks the protocol: the same, and its group, if it has one, loses the member.
  void Expel(absl::Time now, StreamId stream, absl::string_view what, Output* output);
  void End(absl::Time now, StreamId stream, absl::string_view how, bool may_return, Output* output);
  // A message, `what`, of a worker that has joined: `take` is given its group and rank.  What
  // `take` refuses, and one that comes before the Joined, breaks the protocol.
  void OfMember(absl::Time now, StreamId stream, absl::string_view what,
                absl::FunctionRef<absl::Status(Group*, uint32_t)> take, Output* output);
  // After an event of the group, whose replies begin at `first`: forgets the streams that they
  // close, and the group when it is over; takes its deadline into account.
  void Settle(absl::Time now, Group* group, size_t first, Output* output);
  // The group has ended: its run is over; remembers why, for members that come back too late.
  void Bury(const Group& group);
  void Schedule(absl::Time deadline) { next_deadline_ = std::min(next_deadline_, deadline); }

  const Settings settings_;
  Group::Shared shared_;
  absl::flat_hash_map<StreamId, Stream> streams_;
  std::map<uint64_t, std::unique_ptr<Group>> groups_;  // that have streams, in order of making
  absl::flat_hash_map<std::string, Group*> latest_;    // of each name
  uint64_t made_ = 0;
  absl::flat_hash_map<uint64_t, Failure> ended_;  // runs; at most Limits.groups
  std::deque<uint64_t> ended_order_;              // the oldest first
  IncidentLimit incident_limit_;
  RoundCounters past_;                    // of groups that are no more
  std::deque<Report::Failure> failures_;  // the latest first
  bool draining_ = false;
  absl::Time drain_deadline_ = absl::InfiniteFuture();
  absl::Time next_deadline_ = absl::InfiniteFuture();
};

}  // namespace syncnorm::server
