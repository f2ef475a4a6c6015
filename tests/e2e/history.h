// History: what one worker of a chaos run did and saw, one JSON object a line, for
// check_history.py.  Every line is written at once, so that a worker that is killed
// leaves all it knew.
//
//   {"e":"worker", "rank", "pid", "host", "world", "group", "seed", "channels", "on_loss",
//                  "round_timeout_us"}                                        the first line
//   {"e":"joined", "epoch", "late", "hosts", "members", "t"}   late: to a run under way
//   {"e":"epoch",  "epoch", "members", "t"}                    the members have changed
//   {"e":"call",   "id", "epoch", "layer", "direction", "step", "sent", "count", "t"}
//   {"e":"return", "id", "epoch", "code", "text", "round", "ranks", "count", "got", "waited", "t"}
//   {"e":"ended",  "epoch", "code", "text", "t"}                   the membership's failure
//   {"e":"left",   "epoch", "t"}
//
// A call without a return is one under which the worker died.  "sent" and "got" are digests
// (workload.h); "t" is CLOCK_MONOTONIC in microseconds, comparable between
// processes of one machine; "epoch" of a return is that of the membership when it was taken,
// "round" that of the failure (0: it is the membership's), and "waited" when the caller began to
// wait for it.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/group.h>

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/e2e/workload.h"

namespace syncnorm::e2e {

class History {
 public:
  // Appends to the file; empty: records nothing.  Ends the process if it cannot be opened.
  explicit History(const std::string& path);
  ~History();
  History(const History&) = delete;
  History& operator=(const History&) = delete;

  void Worker(const GroupOptions& options, const Workload& workload);
  void Joined(const Group& group);
  // The members have changed.
  void Epoch(const Group& group);
  // The id of the call, for Return.
  uint64_t Call(uint64_t epoch, const Operation& operation, const Moments& moments);
  void Return(uint64_t id, uint64_t epoch, absl::Time waited,
              const absl::StatusOr<Moments>& result);
  void Ended(uint64_t epoch, const absl::Status& why);
  void Left(uint64_t epoch);

 private:
  std::FILE* file_ = nullptr;
  uint64_t last_id_ = 0;
};

}  // namespace syncnorm::e2e
