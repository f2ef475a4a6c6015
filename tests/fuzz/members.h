// Members: the workers of one group around a Shell: real client sessions, the
// streams between, and what can go wrong with them.  Which event comes when is
// the caller's choice; all of them are possible at any time, and do nothing where they have no
// meaning.
//
// Required, beyond shell.h and ledger.h:
//   * each round that a session took ends exactly once, and in time (Finish);
//   * no session finds that the coordinator breaks the protocol, unless its own worker did.
//
// Thread-safety: thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "client/session.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "tests/fuzz/ledger.h"
#include "tests/fuzz/shell.h"

namespace syncnorm::fuzz {

class Members {
 public:
  struct Plan {
    uint32_t world = 2;
    OnLoss on_loss = OnLoss::kFail;
    NonFinite non_finite = NonFinite::kFail;
    bool replace_duplicates = false;
    bool grace = true;  // for those who return
  };
  enum class Lie : uint8_t {
    kChanged,  // the last contribution again, with another value
    kLate,     // one that is long over
    kFuture,   // one that leaves others out
    kOtherLayer,
    kOtherShape,
    kOldEpoch,
    kGarbage,
    kRestored,  // an answer that nobody asked for
    kHandover,
    kJoin,  // a second one
    kLast = kJoin,
  };
  enum class Stranger : uint8_t {
    kSilent,
    kGarbage,
    kEarly,       // contributes without having joined
    kOtherWorld,  // joins with another world size
    kOtherPolicy,
    kClaim,        // joins with a rank of the group
    kFalseResume,  // resumes a run that never was
    kOtherGroup,   // a group of its own
    kTruncated,    // says that it brings answers, and does not
    kLast = kTruncated,
  };

  explicit Members(const Plan& plan);

  uint32_t world() const { return plan_.world; }
  // No process has the rank, or one whose membership is over.
  bool Absent(uint32_t rank) const;

  void Start(uint32_t rank);  // a new process, whatever becomes of the one before
  void Submit(uint32_t rank);
  void SubmitNaN(uint32_t rank);
  void Leave(uint32_t rank);
  void FinishData(uint32_t rank);
  void Read(uint32_t rank);  // the coordinator, one message of this worker
  void Take(uint32_t rank);  // the worker, one message
  void Run();                // all of them, until nothing is under way
  // The stream breaks; `noticed`: the coordinator is told at once.
  void Break(uint32_t rank, bool noticed);
  void Kill(uint32_t rank, bool noticed);
  void Return(uint32_t rank);  // opens a stream again
  void Deafen(uint32_t rank);  // what it is sent is lost, until its stream breaks
  void CutOff(uint32_t rank);
  void Tell(uint32_t rank, Lie lie);
  void Come(Stranger stranger, uint32_t rank);
  void Notice() { shell_.Notice(); }
  void Pass(absl::Duration time);
  void PassToDeadline();
  void Drain(absl::Duration grace) { shell_.Drain(grace); }
  void Restart();
  // All come back, what is under way arrives, and all timers run out.
  void Finish();

 private:
  struct Worker {
    std::unique_ptr<Session> session;
    StreamId stream = 0;
    uint32_t life = 0;
    bool deaf = false;
    bool lied = false;
    uint64_t next = 1;      // round
    uint64_t boundary = 0;  // the round of a boundary that it waits for
    std::set<uint64_t> submitted;
  };

  wire::Join MakeJoin(uint32_t rank, uint32_t life) const;
  wire::Contribution MakeContribution(uint32_t rank, uint64_t round) const;
  bool Submit(uint32_t rank, double value);
  bool TakeOne(uint32_t rank);
  void Receive(uint32_t rank, const Bytes& bytes);
  // Takes what a session's call ended, and does what follows from it.
  void Settle(uint32_t rank);
  void Send(uint32_t rank, const std::vector<Bytes>& messages);
  void Drop(uint32_t rank, bool noticed);
  void Closed(uint32_t rank, const std::string& why);

  const Plan plan_;
  Shell shell_;
  Ledger ledger_;
  wire::Codec codec_;
  wire::CoordinatorMessage incoming_;
  std::vector<Session::Completion> done_;
  std::array<Worker, kMaxWorld> workers_;
  std::deque<StreamId> strangers_;
};

}  // namespace syncnorm::fuzz
