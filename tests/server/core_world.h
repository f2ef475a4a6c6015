// CoreWorld: a coordinator's core and the workers around it, for tests: streams
// are made by name of group and rank, replies are decoded and kept per stream,
// and time is a number that the test moves.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "server/coordinator.h"

namespace syncnorm::server {

// What a test says of a contribution; the rest is usual.
struct Sent {
  uint64_t round = 1;
  std::string layer = "bn1";
  Direction direction = Direction::kForward;
  uint64_t step = 1;
  std::optional<DType> dtype = DType::kF32;
  MomentKind kind = MomentKind::kSums;
  Precision precision = Precision::kF64;
  int64_t rows = 1;
  int64_t channels = 2;
  uint64_t count = 10;
  double value = 1;    // of every entry
  uint64_t epoch = 0;  // 0: the stream's
  bool boundary = false;
};

wire::Contribution Make(const Sent& sent, uint64_t epoch);
wire::Join MakeJoin(uint32_t rank, uint32_t world_size, const std::string& group = "world");

Settings WithoutGrace();
// As in production: a lost stream's worker may come back.
Settings WithGrace(uint64_t coordinator_id);

class CoreWorld {
 public:
  struct Got {
    wire::CoordinatorMessage message;
    std::string bytes;
  };

  // Whose lost streams are lost members at once; tests of coming back say another grace.
  explicit CoreWorld(Settings settings = WithoutGrace());

  // A new stream that joins; returns its id.
  StreamId Join(const wire::Join& join);
  StreamId Open();
  void JoinOn(StreamId stream, const wire::Join& join);
  // A group of streams, joined; index = rank.  Their Joined are taken.
  std::vector<StreamId> Form(uint32_t world_size, const std::string& group = "world");

  void Contribute(StreamId stream, const Sent& sent);
  // The same, told in full.
  void ContributeAs(StreamId stream, wire::Contribution contribution);
  void Restore(StreamId stream, const std::string& answer);
  void Finish(StreamId stream);
  void HandOver(StreamId stream, const wire::Handover& piece);
  void Leave(StreamId stream, const std::string& reason = "");
  void Disconnect(StreamId stream);
  void Malformed(StreamId stream, const std::string& what);
  void Pass(absl::Duration time);  // and ticks
  void Drain(absl::Duration grace);

  // What came to the stream since the last call.
  std::vector<Got> Take(StreamId stream);
  // Exactly one message came, of that kind (a test failure otherwise).
  wire::Joined TakeJoined(StreamId stream);
  wire::Result TakeResult(StreamId stream);
  Failure TakeFailure(StreamId stream);
  std::string TakeBytes(StreamId stream);
  bool closed(StreamId stream) const { return closed_.count(stream) > 0; }
  // Replies that let the stream's next message be read, so far.
  int answers(StreamId stream) const {
    const auto it = answers_.find(stream);
    return it == answers_.end() ? 0 : it->second;
  }

  absl::Time now() const { return now_; }
  Coordinator& core() { return core_; }
  std::vector<Note> TakeWholeNotes() { return std::move(notes_); }
  std::vector<std::string> TakeNotes();  // their texts
  std::vector<Report> TakeIncidents() { return std::move(incidents_); }

 private:
  void Deliver();
  std::optional<Got> TakeOne(StreamId stream);

  Coordinator core_;
  wire::Codec codec_;
  Output output_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  StreamId last_stream_ = 0;
  std::map<StreamId, uint64_t> epochs_;
  std::map<StreamId, std::vector<Got>> inbox_;
  std::map<StreamId, bool> closed_;
  std::map<StreamId, int> answers_;
  std::vector<Note> notes_;
  std::vector<Report> incidents_;
};

}  // namespace syncnorm::server
