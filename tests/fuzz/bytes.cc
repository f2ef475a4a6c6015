// fuzz_bytes: bytes as they come from the network, into the codec's decoders and
// from there into what production feeds with them: the coordinator's core, or
// a client's session.
//
//   first byte     bit 0: whose side; bit 1: duplicates replace; bit 2: no grace for those who
//   return then, until the end, one byte of operation (low 2 bits: the stream; next 3 bits: what)
//   and what it takes: a message (length, bytes), a choice, or nothing
//
// Required, beyond what shell.h requires: what was decoded, encoded and decoded again is encoded to
// the same bytes; a session's rounds end exactly once.

#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/session.h"
#include "proto/codec.h"
#include "proto/wire.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/require.h"
#include "tests/fuzz/shell.h"

namespace syncnorm::fuzz {
namespace {

constexpr absl::Duration kTimes[] = {absl::ZeroDuration(),    absl::Milliseconds(1),
                                     absl::Milliseconds(200), absl::Seconds(5),
                                     absl::Minutes(1),        absl::Minutes(5)};

std::string Encode(const wire::WorkerMessage& message, wire::Codec* codec) {
  using Kind = wire::WorkerMessage::Kind;
  switch (message.kind) {
    case Kind::kJoin:
      return codec->Encode(message.join);
    case Kind::kContribution:
      return codec->Encode(message.contribution);
    case Kind::kRestored:
      return codec->Encode(message.restored);
    case Kind::kFinish:
      return codec->Encode(wire::Finish());
    case Kind::kHandover:
      return codec->EncodeFromWorker(message.handover);
    case Kind::kLeave:
      return codec->Encode(message.leave);
  }
  Broken(__FILE__, __LINE__, "a worker's message is of a known kind");
}

std::string Encode(const wire::CoordinatorMessage& message, wire::Codec* codec) {
  using Kind = wire::CoordinatorMessage::Kind;
  switch (message.kind) {
    case Kind::kJoined:
      return codec->Encode(message.joined);
    case Kind::kResult:
      return codec->Encode(message.result);
    case Kind::kFailure:
      return codec->Encode(message.failure);
    case Kind::kDraining:
      return codec->Encode(message.draining);
    case Kind::kEpochChanged:
      return codec->Encode(message.epoch_changed);
    case Kind::kHandover:
      return codec->EncodeToWorker(message.handover);
  }
  Broken(__FILE__, __LINE__, "a coordinator's message is of a known kind");
}

// What was decoded is a message that can be sent, and means the same again.
template <typename Message>
void CheckStable(const std::string& bytes, wire::Codec* codec) {
  Message first, second;
  if (!codec->Decode(bytes, &first).ok()) return;
  const std::string once = Encode(first, codec);
  const absl::Status status = codec->Decode(once, &second);
  SYNCNORM_REQUIRE(status.ok(), absl::StrCat("what was decoded can be sent: ", status.message()));
  SYNCNORM_REQUIRE(Encode(second, codec) == once, "decode(encode(x)) is x");
}

// Four streams into one core.
void Serve(uint8_t flags, Input* input) {
  server::Settings settings = SmallSettings();
  settings.timeouts.replace_duplicates = (flags & 2) != 0;
  if ((flags & 4) != 0) settings.timeouts.reconnect = absl::ZeroDuration();
  Shell shell(settings);
  wire::Codec codec;
  std::array<StreamId, 4> streams{};
  while (!input->empty()) {
    const uint8_t operation = input->Byte();
    StreamId& stream = streams[operation & 3];
    switch (operation >> 2 & 7) {
      case 4:
        shell.Disconnect(stream);
        break;
      case 5:
        shell.Pass(kTimes[input->Below(std::size(kTimes))]);
        break;
      case 6:  // the old stream is not noticed to be gone yet
        stream = shell.Open();
        break;
      case 7:
        if (input->Flag()) {
          shell.Drain(absl::Seconds(1));
        } else {
          shell.Restart();
        }
        break;
      default: {
        const std::string bytes = input->Bytes();
        CheckStable<wire::WorkerMessage>(bytes, &codec);
        if (!shell.open(stream)) stream = shell.Open();
        shell.Send(stream, std::make_shared<const std::string>(bytes));
        for (const StreamId each : streams) {
          while (shell.Read(each)) {
          }
        }
      }
    }
  }
  shell.Finish();
}

// One session, of a coordinator that may say anything.
class Listener {
 public:
  explicit Listener(uint8_t flags) : session_("fuzz:1", MakeJoin(flags)) { session_.Start(); }

  void Step(uint8_t operation, Input* input) {
    switch (operation >> 2 & 7) {
      case 4:
        session_.Closed(absl::UnavailableError("broken"), now_, &done_);
        break;
      case 5:
        now_ += kTimes[input->Below(std::size(kTimes))];
        session_.Advance(now_, &done_);
        break;
      case 6:
        Submit(input->Byte());
        break;
      case 7:
        Other(input->Byte());
        break;
      default: {
        const std::string bytes = input->Bytes();
        CheckStable<wire::CoordinatorMessage>(bytes, &codec_);
        wire::CoordinatorMessage message;
        const absl::Status status = codec_.Decode(bytes, &message);
        if (status.ok()) {
          session_.Receive(&message, bytes, now_, &done_);
        } else {
          session_.Garbled(status, &done_);
        }
      }
    }
    Take();
  }

  void Finish() {
    now_ = absl::InfiniteFuture();
    session_.Advance(now_, &done_);
    Take();
    SYNCNORM_REQUIRE(submitted_.empty(), absl::StrCat(submitted_.size(), " rounds did not end"));
  }

 private:
  static wire::Join MakeJoin(uint8_t flags) {
    wire::Join join;
    join.group = "world";
    join.world_size = 2;
    join.host = "h0";
    join.incarnation = "incarnation----0";
    join.on_loss = static_cast<OnLoss>((flags >> 1) % 3);
    join.round_timeout = absl::Seconds(60);
    join.join_timeout = absl::Seconds(60);
    return join;
  }

  bool running() const {
    return session_.phase() == Session::Phase::kJoined || session_.phase() == Session::Phase::kAway;
  }

  void Submit(uint8_t choice) {
    if (session_.phase() == Session::Phase::kJoining) return;
    ReduceKey key;
    key.layer = (choice & 1) != 0 ? "bn1" : "bn2";
    key.direction = Direction::kForward;
    key.step = choice >> 4;
    Moments moments = Moments::Sums(1, 1 + (choice >> 1 & 1), Precision::kF64);
    moments.count = 1;
    Bytes bytes;
    const absl::StatusOr<uint64_t> round =
        session_.Submit(key, moments, now_, &bytes, (choice & 8) != 0);
    if (!round.ok()) return;
    SYNCNORM_REQUIRE(submitted_.insert(*round).second, absl::StrCat("round ", *round, " is new"));
  }

  void Other(uint8_t choice) {
    switch (choice % 5) {
      case 0:
        session_.Start();
        break;
      case 1:
        session_.TakeReplay();
        break;
      case 2:
        if (running() && session_.pending() == 0) session_.Leave("done");
        break;
      case 3:
        if (running() && session_.pending() == 0) session_.Finish().IgnoreError();
        break;
      case 4:
        if (session_.TakeAdmission().has_value()) session_.HandOver("state");
        break;
    }
  }

  void Take() {
    for (const Session::Completion& completion : done_) {
      SYNCNORM_REQUIRE(submitted_.erase(completion.round) == 1,
                       absl::StrCat("round ", completion.round, " ends once"));
    }
    done_.clear();
    SYNCNORM_REQUIRE(session_.kept() <= Session::kMaxKept, absl::StrCat(session_.kept(), " kept"));
  }

  Session session_;
  wire::Codec codec_;
  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  std::vector<Session::Completion> done_;
  std::set<uint64_t> submitted_;
};

void Listen(uint8_t flags, Input* input) {
  Listener listener(flags);
  while (!input->empty()) listener.Step(input->Byte(), input);
  listener.Finish();
}

}  // namespace
}  // namespace syncnorm::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  syncnorm::fuzz::Input input(data, size);
  const uint8_t flags = input.Byte();
  if ((flags & 1) == 0) {
    syncnorm::fuzz::Serve(flags, &input);
  } else {
    syncnorm::fuzz::Listen(flags, &input);
  }
  return 0;
}
