// CoreWorker: a worker as the wire wants it, for tests of the coordinator's core: it numbers its
// rounds, remembers what is unanswered and the answers that are not settled, and
// resumes with them on a new stream, of the same coordinator or of its next life.
//
// Its program is the same for all: round n has a layer and a step that follow from n.  Waits for
// nothing: a test calls Take() to let it read.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/server/core_world.h"

namespace syncnorm::server {

class CoreWorker {
 public:
  using Got = CoreWorld::Got;

  explicit CoreWorker(const wire::Join& join) : join_(join) {}

  // On a new stream, as one that knows of no run: again for the same membership if it has not heard
  // that it has joined, else for another one.
  void Join(CoreWorld* world);
  // On a new stream, as a member; brings its answers along.  What is unanswered is sent again by
  // Take().
  void Resume(CoreWorld* world);
  // The same, without the answers: they are announced only.
  void ResumeSilently(CoreWorld* world);
  void Restore();
  // Its next round.
  void Contribute(bool boundary = false);
  void ContributeAs(const wire::Contribution& contribution);
  void Finish();
  void HandOver(const std::string& chunk, bool last) { world_->HandOver(stream_, {chunk, last}); }
  void CannotHandOver(const std::string& why) { world_->HandOver(stream_, {"", false, why}); }
  void Leave();
  void Disconnect() { world_->Disconnect(stream_); }
  // The stream is over: the world it was in is gone.
  void Forget() { stream_ = 0; }
  // Reads what came, and sends again what is unanswered if a Joined was among it.
  std::vector<Got> Take();
  // Exactly one message, a failure of the membership.
  Failure TakeFailure();

  wire::Join& join() { return join_; }
  wire::Resume& known() { return known_; }
  const wire::Resume& known() const { return known_; }
  uint32_t rank() const { return join_.rank; }
  StreamId stream() const { return stream_; }
  bool joined() const { return joined_; }  // on this stream
  bool member() const { return known_.run_id != 0; }
  bool open() const { return world_ != nullptr && stream_ != 0 && !world_->closed(stream_); }
  uint64_t next() const { return next_; }
  size_t unanswered() const { return unanswered_.size(); }
  // Of the run, by round.
  const std::map<uint64_t, std::string>& answers() const { return answers_; }
  const std::vector<wire::EpochChanged>& changes() const { return changes_; }
  const std::string& handed_over() const { return handed_over_; }
  const std::vector<Failure>& failures() const { return failures_; }  // of the membership

 private:
  void Remember(const Got& got);
  void Answered(uint64_t round, const std::string& bytes);

  wire::Join join_;
  CoreWorld* world_ = nullptr;
  StreamId stream_ = 0;
  bool joined_ = false;
  bool heard_ = false;  // a Joined, once
  wire::Resume known_;
  uint64_t next_ = 1;
  uint64_t settled_ = 0;
  std::map<uint64_t, wire::Contribution> unanswered_;
  std::map<uint64_t, std::string> answers_;
  std::vector<wire::EpochChanged> changes_;
  std::vector<Failure> failures_;
  std::string handed_over_;
};

}  // namespace syncnorm::server
