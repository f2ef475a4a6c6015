// InProcessGroup: a group whose members live in one process, one thread each.
// It folds as a coordinator does: each contribution rounded as the wire would,
// folded in rank order, the result rounded, the same to every member.
//
// What a test may script, before its members start:
//   SetArrivalOrder  a round's contributions are let in in this order of ranks
//                    (a member's call waits for its turn)
//   FailRound        the n-th round (1, 2, ...) fails with this status for all
//   Hold, Release    results are complete, but not given out until Release
//   Disconnect       connected() becomes false
//   HandOver         a layer of this name starts from this state, on every member
//
// Members that contribute different keys or shapes to a round all get kAborted with
// both named.  A wait that lasts longer than `patience` fails with kDeadlineExceeded and
// names the missing ranks: no test hangs.
//
// Thread-safety: thread-safe.
#pragma once

#include <syncnorm/reducer.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace syncnorm::testing {

class InProcessGroup {
 public:
  explicit InProcessGroup(int world_size,
                          std::chrono::milliseconds patience = std::chrono::seconds(20));
  ~InProcessGroup();

  int world_size() const { return world_size_; }
  Reducer* member(int rank);

  void SetArrivalOrder(std::vector<int> ranks);
  void FailRound(uint64_t round, absl::Status status);
  void Hold();
  void Release();
  void Disconnect();
  void HandOver(const std::string& layer, std::string state);

  // What `rank` gave with its layer, which must be there.
  LayerState* state(int rank, const std::string& layer) const;
  // Threads that wait for a result now.
  int waiting() const;
  // Rounds that all members have contributed to.
  uint64_t completed() const;
  // What `rank` submitted, in order: "forward bn step 3".
  std::vector<std::string> submitted(int rank) const;

  // Runs `body` for every rank, each in a thread, and returns when all have.
  void Run(const std::function<void(int rank, Reducer* reducer)>& body);

 private:
  struct Core;
  class Member;
  class Result;

  const int world_size_;
  std::shared_ptr<Core> core_;
  std::vector<std::unique_ptr<Member>> members_;
};

// Several threads meet: each call returns once `count` have been made.
class Meeting {
 public:
  explicit Meeting(int count);
  ~Meeting();
  void Wait();

 private:
  struct Core;
  std::unique_ptr<Core> core_;
};

}  // namespace syncnorm::testing
