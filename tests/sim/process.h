// Process: one life of a worker.  See worker.h.
//
//   kJoining --> kTraining --> kLeaving --> kOver
//      ^            |
//      +-- kResting +            after a failure, for a moment
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/session.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "tests/sim/worker.h"

namespace syncnorm::sim {

class Process final : public Caller {
 public:
  enum class Phase : uint8_t { kJoining, kResting, kTraining, kLeaving, kOver, kDead };

  Process(const Worker::Surroundings& around, const Who& who, const std::string& host,
          uint32_t machine, uint64_t seed);

  void Start();
  void Die(absl::Duration notice);
  void Pause();
  void Resume();
  // It goes on as long as its membership lasts; then it does not join again.
  void Disown() { disowned_ = true; }

  Phase phase() const { return phase_; }
  bool paused() const { return paused_; }
  uint64_t state() const { return state_; }
  void Look();
  std::string Where() const;

  void OnOpened(Line* line) override;
  void OnMessage(Line* line, const Bytes& bytes) override;
  void OnClosed(Line* line, const absl::Status& status) override;

 private:
  using Completions = std::vector<Session::Completion>;

  struct Call {
    uint64_t round = 0;
    Position position;
    bool boundary = false;
    absl::Time bound;  // when it must be over
  };

  // Does it now, or when the process goes on; afterwards whatever follows from it.
  void Run(std::function<void()> event);
  void PlanWake();
  void Wake();

  void BeginJoin();
  void TryJoin();
  void RetryJoin(const absl::Status& why);
  void OnJoinedFirst();
  void FailJoin(const absl::Status& why);

  void Deliver(Completions* done);
  void OnEnd(const Session::Completion& completion);
  void CheckMembership();
  void Reopen();
  void Rest();
  void Drop();  // the line
  void Send(const Bytes& bytes);
  void SendContribution(const Bytes& bytes);
  void Replay();

  // Walks on as far as it can.
  void Train();
  bool Submit();
  bool AtEnd() const;
  uint32_t Quota(uint64_t pass) const;
  void SubmitBoundary();
  void HandOver();
  void CallFinish();
  void BeginLeave();
  void EndLeave();
  void TakeOver(const std::string& state);

  absl::Time now() const { return around_.timeline->now(); }
  const GroupPlan& plan() const { return *around_.group->plan; }

  const Worker::Surroundings around_;
  const Who who_;
  const std::string host_;
  const uint32_t machine_;
  const std::string incarnation_;
  uint64_t ticket_;  // of its latest membership
  Random random_;

  Phase phase_ = Phase::kResting;
  bool paused_ = false;
  bool disowned_ = false;
  std::vector<std::function<void()>> waiting_;
  absl::Time paused_at_;

  std::unique_ptr<Session> session_;
  Line* line_ = nullptr;
  wire::Codec codec_;
  wire::CoordinatorMessage incoming_;
  Completions completions_;

  absl::Time wake_at_ = absl::InfiniteFuture();
  absl::Time next_try_ = absl::InfiniteFuture();  // of joining, opening again, or after a rest
  int attempts_ = 0;

  // Joining.
  absl::Time join_began_;
  bool reached_ = false;         // the coordinator, by this attempt
  bool reached_before_ = false;  // by the one before

  // Training.
  uint64_t run_ = 0;
  uint64_t epoch_ = 0;
  std::deque<Call> calls_;
  Position position_;
  uint64_t pass_ = 0;
  bool boundary_done_ = false;  // of this step
  bool computing_ = false;
  bool finishing_ = false;
  absl::Time finish_bound_ = absl::InfiniteFuture();
  uint64_t state_ = 0;
  uint64_t state_before_ = 0;  // of one round ago
  size_t failed_ = 0;          // rounds of this membership
  std::vector<Bytes> sent_;    // of the latest contributions, for what comes again
  absl::Time leave_until_ = absl::InfiniteFuture();
};

}  // namespace syncnorm::sim
