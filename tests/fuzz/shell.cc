#include "tests/fuzz/shell.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/fuzz/require.h"

namespace syncnorm::fuzz {
namespace {

absl::string_view View(const absl::Status& status) { return status.message(); }

// Nobody can wait for ever: the harness makes it an hour.
void Bound(absl::Duration* timeout) { *timeout = std::min(*timeout, absl::Hours(1)); }

}  // namespace

server::Settings SmallSettings() {
  server::Settings settings;
  settings.coordinator_id = 0x5eed;
  server::Limits& limits = settings.limits;
  limits.groups = 3;
  limits.members = 8;
  limits.streams = 10;
  limits.values = 64;
  limits.layer_name_bytes = 32;
  limits.kept_rounds = 4;
  limits.kept_bytes = 4096;
  limits.open_rounds = 4;
  limits.open_bytes = 1024;
  limits.handover_bytes = 256;
  limits.layers = 4;
  limits.flight_rounds = 8;
  return settings;
}

Shell::Shell(const server::Settings& settings)
    : settings_(settings), core_(std::make_unique<server::Coordinator>(settings)) {}

StreamId Shell::Open() {
  streams_.emplace(++last_, Stream());
  core_->OnOpen(now_, last_, &output_);
  Deliver();
  return last_;
}

bool Shell::open(StreamId stream) const {
  const auto it = streams_.find(stream);
  return it != streams_.end() && it->second.open && !it->second.broken;
}

void Shell::Send(StreamId stream, Bytes message) {
  if (open(stream)) streams_[stream].in.push_back(std::move(message));
}

bool Shell::Read(StreamId id) {
  const auto it = streams_.find(id);
  if (it == streams_.end()) return false;
  Stream& stream = it->second;
  if (!stream.open || stream.broken || stream.unanswered || stream.left || stream.in.empty()) {
    return false;
  }
  const Bytes message = std::move(stream.in.front());
  stream.in.pop_front();
  Handle(id, message);
  return true;
}

void Shell::Handle(StreamId id, const Bytes& message) {
  Stream& stream = streams_[id];
  if (const absl::Status status = codec_.Decode(*message, &from_worker_); !status.ok()) {
    core_->OnMalformed(now_, id, View(status), &output_);
    Deliver();
    SYNCNORM_REQUIRE(!stream.open, "a stream with a malformed message is closed");
    return;
  }
  using Kind = wire::WorkerMessage::Kind;
  stream.unanswered = from_worker_.kind == Kind::kJoin ||
                      from_worker_.kind == Kind::kContribution ||
                      from_worker_.kind == Kind::kRestored;
  stream.left = from_worker_.kind == Kind::kLeave;
  switch (from_worker_.kind) {
    case Kind::kJoin:
      Bound(&from_worker_.join.round_timeout);
      Bound(&from_worker_.join.join_timeout);
      core_->OnJoin(now_, id, from_worker_.join, &output_);
      break;
    case Kind::kContribution:
      core_->OnContribution(now_, id, &from_worker_.contribution, &output_);
      break;
    case Kind::kRestored:
      core_->OnRestored(now_, id, from_worker_.restored, &output_);
      break;
    case Kind::kFinish:
      core_->OnFinish(now_, id, &output_);
      break;
    case Kind::kHandover:
      core_->OnHandover(now_, id, from_worker_.handover, &output_);
      break;
    case Kind::kLeave:
      core_->OnLeave(now_, id, from_worker_.leave, &output_);
      break;
  }
  Deliver();
  SYNCNORM_REQUIRE(!stream.left || !stream.open, "a stream that left is closed");
}

Bytes Shell::Take(StreamId stream) {
  const auto it = streams_.find(stream);
  if (it == streams_.end() || it->second.out.empty()) return nullptr;
  Bytes message = std::move(it->second.out.front());
  it->second.out.pop_front();
  return message;
}

void Shell::Break(StreamId stream) {
  const auto it = streams_.find(stream);
  if (it != streams_.end()) it->second.broken = true;
}

void Shell::Notice() {
  std::vector<StreamId> broken;
  for (const auto& [id, stream] : streams_) {
    if (stream.broken) broken.push_back(id);
  }
  for (const StreamId stream : broken) Disconnect(stream);
}

void Shell::Disconnect(StreamId stream) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  it->second.open = false;
  core_->OnDisconnect(now_, stream, &output_);
  streams_.erase(stream);
  Deliver();
}

void Shell::CutOff(StreamId stream) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  it->second.open = false;
  core_->OnCutOff(now_, stream, "was cut off, as it does not read", &output_);
  streams_.erase(stream);
  Deliver();
}

void Shell::Pass(absl::Duration time) {
  now_ += time;
  core_->OnTick(now_, &output_);
  Deliver();
}

bool Shell::PassToDeadline() {
  const absl::Time next = core_->NextDeadline();
  if (next == absl::InfiniteFuture()) return false;
  Pass(std::max(next - now_, absl::ZeroDuration()));
  return true;
}

void Shell::Drain(absl::Duration grace) {
  core_->Drain(now_, grace, &output_);
  Deliver();
}

void Shell::Restart() {
  output_.Clear();
  streams_.clear();
  ++settings_.coordinator_id;
  core_ = std::make_unique<server::Coordinator>(settings_);
}

void Shell::Finish() {
  Notice();
  // Whatever came is read; and each timer may start another one: a round, the resuming of a group,
  // the wait of those who come late.
  for (int i = 0;; ++i) {
    SYNCNORM_REQUIRE(i < 1000, "timers run out");
    bool read = false;
    std::vector<StreamId> ids;
    for (const auto& [id, stream] : streams_) ids.push_back(id);
    for (const StreamId id : ids) read |= Read(id);
    if (!read && !PassToDeadline()) break;
  }
  for (const auto& [id, stream] : streams_) {
    SYNCNORM_REQUIRE(!stream.open || !stream.unanswered,
                     absl::StrCat("stream ", id, " is answered or closed in the end"));
  }
  Drain(absl::Seconds(1));
  Pass(absl::Seconds(1));
  SYNCNORM_REQUIRE(core_->drained(), "a drain ends with its grace");
  for (const auto& [id, stream] : streams_) {
    SYNCNORM_REQUIRE(!stream.open, absl::StrCat("stream ", id, " is closed by a drain"));
  }
}

void Shell::Deliver() {
  // For whoever looks into a finding.
  static const bool log = std::getenv("SYNCNORM_FUZZ_LOG") != nullptr;
  for (const server::Note& note : output_.notes) {
    if (log) std::fprintf(stderr, "%s %s\n", Time().c_str(), note.text.c_str());
  }
  for (const server::Reply& reply : output_.replies) {
    const auto it = streams_.find(reply.stream);
    SYNCNORM_REQUIRE(it != streams_.end() && it->second.open,
                     absl::StrCat("replies go to open streams, not to ", reply.stream));
    Stream& stream = it->second;
    if (log) {
      std::fprintf(stderr, "%s -> stream %d%s%s\n", Time().c_str(), static_cast<int>(reply.stream),
                   reply.answer ? ", an answer" : "", reply.close ? ", the last" : "");
    }
    if (reply.bytes != nullptr) {
      const absl::Status status = codec_.Decode(*reply.bytes, &to_worker_);
      SYNCNORM_REQUIRE(status.ok(), absl::StrCat("replies are messages: ", View(status)));
      stream.out.push_back(reply.bytes);
    }
    if (reply.answer) stream.unanswered = false;
    if (reply.close) stream.open = false;
  }
  output_.Clear();
  CheckBounds();
}

std::string Shell::Time() const {
  return absl::FormatDuration(now_ - absl::UnixEpoch() - absl::Hours(1));
}

void Shell::CheckBounds() const {
  const server::Snapshot now = core_->snapshot();
  const server::Limits& limits = settings_.limits;
  const auto open = static_cast<uint64_t>(std::count_if(
      streams_.begin(), streams_.end(), [](const auto& entry) { return entry.second.open; }));
  SYNCNORM_REQUIRE(now.streams == open,
                   absl::StrCat("the core knows the ", open, " open streams, not ", now.streams));
  SYNCNORM_REQUIRE(now.streams <= limits.streams, absl::StrCat("streams: ", now.streams));
  SYNCNORM_REQUIRE(now.members <= now.streams, absl::StrCat("members: ", now.members));
  SYNCNORM_REQUIRE(now.groups <= limits.groups, absl::StrCat("groups: ", now.groups));
  SYNCNORM_REQUIRE(now.away <= limits.groups * limits.members, absl::StrCat("away: ", now.away));
  SYNCNORM_REQUIRE(now.open_rounds <= now.groups * limits.open_rounds,
                   absl::StrCat("open rounds: ", now.open_rounds));
  SYNCNORM_REQUIRE(now.open_bytes <= now.groups * limits.open_bytes,
                   absl::StrCat("bytes of open rounds: ", now.open_bytes));
  // Behind an open round as many may have ended as can be open.
  const uint64_t kept = limits.open_rounds + limits.kept_rounds;
  SYNCNORM_REQUIRE(now.kept_rounds <= now.groups * kept,
                   absl::StrCat("kept rounds: ", now.kept_rounds));
  SYNCNORM_REQUIRE(now.kept_bytes <= now.groups * kept * server::MaxMessageBytes(limits),
                   absl::StrCat("bytes of kept rounds: ", now.kept_bytes));
}

}  // namespace syncnorm::fuzz
