// Writes seeds for the fuzz targets: whole conversations of real sessions with the
// coordinator's core, as bytes of both directions, and short lists of events.
//
// usage: fuzz_seeds FOLDER      writes FOLDER/bytes/* and FOLDER/events/*

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/session.h"
#include "proto/codec.h"
#include "tests/fuzz/events.h"
#include "tests/fuzz/shell.h"

namespace syncnorm::fuzz {
namespace {

constexpr uint32_t kWorld = 2;

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// An operation of bytes.cc.
char Operation(int what, uint32_t stream) { return static_cast<char>(what << 2 | stream); }

void AppendMessage(uint32_t stream, const std::string& message, std::string* to) {
  *to += Operation(0, stream);
  *to += static_cast<char>(message.size() & 255);
  *to += static_cast<char>(message.size() >> 8);
  *to += message;
}

// Two workers, what they send recorded as an input for the coordinator's side, and what the first
// is sent as one for the session's.
class Conversation {
 public:
  explicit Conversation(OnLoss on_loss, NonFinite non_finite = NonFinite::kFail)
      : shell_(SmallSettings()), on_loss_(on_loss), non_finite_(non_finite) {
    to_coordinator_ += '\0';
    to_session_ += static_cast<char>(1 | static_cast<int>(on_loss) << 1);
    for (uint32_t rank = 0; rank < kWorld; ++rank) Start(rank);
    Run();
  }

  void Start(uint32_t rank) {
    wire::Join join;
    join.group = "world";
    join.rank = rank;
    join.world_size = kWorld;
    join.host = absl::StrCat("h", 0);
    join.incarnation = std::string("incarnation----") + static_cast<char>('0' + starts_++);
    join.on_loss = on_loss_;
    join.non_finite = non_finite_;
    join.round_timeout = absl::Seconds(60);
    join.join_timeout = absl::Seconds(60);
    sessions_[rank] = std::make_unique<Session>("fuzz:1", join);
    Return(rank);
  }
  void Return(uint32_t rank) {
    streams_[rank] = shell_.Open();
    to_coordinator_ += Operation(6, rank);
    for (const Bytes& message : sessions_[rank]->Start()) Send(rank, message);
  }
  void Submit(uint32_t rank, const std::string& layer, uint64_t step, double value = 1,
              bool boundary = false) {
    ReduceKey key;
    key.layer = layer;
    key.direction = Direction::kForward;
    key.step = step;
    Moments moments = Moments::Sums(1, 1, Precision::kF64);
    moments.count = 1;
    moments.values[0] = value;
    Bytes bytes;
    if (sessions_[rank]->Submit(key, moments, shell_.now(), &bytes, boundary).ok()) {
      Send(rank, bytes);
    }
    if (rank != 0) return;
    to_session_ += Operation(6, 0);
    to_session_ += static_cast<char>((layer == "bn1" ? 1 : 0) | (boundary ? 8 : 0) | step << 4);
  }
  void Round(const std::string& layer, uint64_t step, bool boundary = false) {
    for (uint32_t rank = 0; rank < kWorld; ++rank) Submit(rank, layer, step, 1, boundary);
    Run();
  }
  void Leave(uint32_t rank) {
    if (sessions_[rank]->phase() == Session::Phase::kJoined) {
      Send(rank, sessions_[rank]->Leave("done"));
    }
    Run();
  }
  void Finish(uint32_t rank) {
    Send(rank, *sessions_[rank]->Finish());
    Run();
  }
  void Break(uint32_t rank) {
    to_coordinator_ += Operation(4, rank);
    shell_.Disconnect(streams_[rank]);
    sessions_[rank]->Closed(absl::UnavailableError("reset"), shell_.now(), &done_);
    if (rank == 0) to_session_ += Operation(4, 0);
  }
  void Restart() {
    to_coordinator_ += Operation(7, 0);
    to_coordinator_ += '\0';
    shell_.Restart();
    for (uint32_t rank = 0; rank < kWorld; ++rank) {
      sessions_[rank]->Closed(absl::UnavailableError("reset"), shell_.now(), &done_);
    }
    to_session_ += Operation(4, 0);
  }
  void Drain() {
    to_coordinator_ += Operation(7, 0);
    to_coordinator_ += '\1';
    shell_.Drain(absl::Seconds(1));
    Run();
  }
  void Minute() {
    to_coordinator_ += Operation(5, 0);
    to_coordinator_ += '\4';
    shell_.Pass(absl::Minutes(1));
    Run();
  }

  void Run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (uint32_t rank = 0; rank < kWorld; ++rank) {
        moved |= shell_.Read(streams_[rank]);
        while (const Bytes bytes = shell_.Take(streams_[rank])) {
          moved = true;
          Receive(rank, *bytes);
        }
      }
    }
  }

  void Save(const std::string& folder, const std::string& name) {
    Write(folder + "/coordinator_" + name, to_coordinator_);
    Write(folder + "/session_" + name, to_session_);
  }

 private:
  void Send(uint32_t rank, const Bytes& message) {
    if (message == nullptr) return;
    AppendMessage(rank, *message, &to_coordinator_);
    shell_.Send(streams_[rank], message);
  }
  void Receive(uint32_t rank, const std::string& bytes) {
    if (rank == 0) AppendMessage(0, bytes, &to_session_);
    Session& session = *sessions_[rank];
    wire::CoordinatorMessage message;
    if (!codec_.Decode(bytes, &message).ok()) return;
    session.Receive(&message, bytes, shell_.now(), &done_);
    for (const Bytes& again : session.TakeReplay()) Send(rank, again);
    if (const auto admission = session.TakeAdmission(); admission && admission->provide) {
      for (const Bytes& piece : session.HandOver("state")) Send(rank, piece);
    }
  }

  Shell shell_;
  const OnLoss on_loss_;
  const NonFinite non_finite_;
  int starts_ = 0;
  wire::Codec codec_;
  std::array<std::unique_ptr<Session>, kWorld> sessions_;
  std::array<StreamId, kWorld> streams_{};
  std::vector<Session::Completion> done_;
  std::string to_coordinator_;
  std::string to_session_;
};

void WriteBytes(const std::string& folder) {
  std::filesystem::create_directories(folder);
  {
    Conversation c(OnLoss::kFail);
    c.Round("bn1", 1);
    c.Round("bn2", 1);
    c.Leave(0);
    c.Leave(1);
    c.Save(folder, "rounds");
  }
  {
    Conversation c(OnLoss::kFail);
    c.Round("bn1", 1);
    c.Submit(0, "bn1", 2);
    c.Submit(1, "bn2", 2);
    c.Run();
    c.Submit(0, "bn1", 3);
    c.Minute();
    c.Save(folder, "failures");
  }
  {
    Conversation c(OnLoss::kFail);
    c.Round("bn1", 1);
    c.Submit(0, "bn2", 1);
    c.Break(0);
    c.Return(0);
    c.Submit(1, "bn2", 1);
    c.Run();
    c.Break(1);
    c.Minute();
    c.Save(folder, "returns");
  }
  {
    Conversation c(OnLoss::kFail);
    c.Round("bn1", 1);
    c.Round("bn2", 1);
    c.Submit(0, "bn1", 2);
    c.Run();
    c.Restart();
    c.Return(1);
    c.Return(0);
    c.Run();
    c.Submit(1, "bn1", 2);
    c.Run();
    c.Save(folder, "restart");
  }
  {
    Conversation c(OnLoss::kShrink);
    c.Round("bn1", 1);
    c.Break(1);
    c.Minute();
    c.Submit(0, "bn2", 1);
    c.Run();
    c.Start(1);
    c.Run();
    c.Submit(0, "bn1", 2, 1, /*boundary=*/true);
    c.Run();
    c.Round("bn2", 2);
    c.Save(folder, "shrink");
  }
  {
    Conversation c(OnLoss::kFinish);
    c.Round("bn1", 1);
    c.Finish(0);
    c.Submit(1, "bn2", 1);
    c.Run();
    c.Finish(1);
    c.Round("bn1", 2);
    c.Save(folder, "finish");
  }
  {
    Conversation c(OnLoss::kFail, NonFinite::kDrop);
    c.Submit(0, "bn1", 1, 0.0 / 0.0);
    c.Submit(1, "bn1", 1);
    c.Run();
    c.Drain();
    c.Save(folder, "drain");
  }
}

char Byte(Event event, int rank = 0) {
  return static_cast<char>(static_cast<int>(event) | rank << 4);
}

void WriteEvents(const std::string& folder) {
  std::filesystem::create_directories(folder);
  const char start = Byte(Event::kStartAll);
  const char round = Byte(Event::kSubmitAll);
  const char run = Byte(Event::kRun);
  const std::string restart = {Byte(Event::kCoordinator), '\0'};
  const std::string drain = {Byte(Event::kCoordinator), '\1'};
  const std::string second = {Byte(Event::kPass), '\3'};
  int number = 0;
  // Of two and of four members, under each policy.
  for (const char world : {'\1', '\3'}) {
    for (int policy = 0; policy < 3; ++policy) {
      const std::string plan = {static_cast<char>(world | policy << 2), '\0'};
      const std::string running = plan + start + round + round + round;
      const std::string back = {Byte(Event::kReturn, 0), Byte(Event::kReturn, 1),
                                Byte(Event::kReturn, 2), Byte(Event::kReturn, 3), run};
      const auto save = [&](const std::string& events) {
        Write(folder + "/seed" + std::to_string(number++), running + events);
      };
      save({round, Byte(Event::kLeave, 0), run, Byte(Event::kLeave, 1), run});
      save(std::string{Byte(Event::kBreak, 1), '\1', round, Byte(Event::kReturn, 1), run} + round);
      save(std::string{Byte(Event::kKill, 1), '\1'} + second + round + start + round + round +
           round + round);
      save(std::string{Byte(Event::kSubmit, 0), Byte(Event::kRead, 0)} + restart + back + round);
      save(std::string{Byte(Event::kFinish, 0), run, round, round, Byte(Event::kFinish, 1), run,
                       round});
      save(drain + round + restart + back + round);
      save({Byte(Event::kLie, 0), '\0', run, Byte(Event::kStranger, 1), '\5', run, round});
    }
  }
}

}  // namespace
}  // namespace syncnorm::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
    return 1;
  }
  const std::string folder = argv[1];
  syncnorm::fuzz::WriteBytes(folder + "/bytes");
  syncnorm::fuzz::WriteEvents(folder + "/events");
  return 0;
}
