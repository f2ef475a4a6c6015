#include "client/session.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/check.h"

namespace syncnorm {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

std::string Shape(MomentKind kind, Precision precision, int64_t rows, int64_t channels) {
  return absl::StrCat(View(Name(kind)), " ", View(Name(precision)), " rows=", rows,
                      " channels=", channels);
}

// A decoder refuses these (proto/codec.h), and with them the whole stream.  Bits
// first, several at once; values only when those leave a doubt (-0, a negative NaN).
absl::Status CheckMeanM2(const Moments& m) {
  if (m.rows != 2) return Invalid("mean_m2 with rows=", m.rows, ", expected 2 (mean, M2)");
  uint64_t bits = 0;
  if (m.count == 0) {
    for (const double v : m.values) bits |= std::bit_cast<uint64_t>(v);
    if (bits == 0) return absl::OkStatus();
    const auto found =
        std::find_if(m.values.begin(), m.values.end(), [](double v) { return !(v == 0); });
    if (found == m.values.end()) return absl::OkStatus();
    const int64_t i = found - m.values.begin();
    return Invalid("mean_m2 with count 0 but value ", *found, " at row ", i / m.channels,
                   " channel ", i % m.channels, ", expected 0");
  }
  const absl::Span<const double> m2 = m.row(1);
  for (const double v : m2) bits |= std::bit_cast<uint64_t>(v);
  if (bits >> 63 == 0) return absl::OkStatus();
  const auto found = std::find_if(m2.begin(), m2.end(), [](double v) { return v < 0; });
  if (found == m2.end()) return absl::OkStatus();
  return Invalid("M2 is ", *found, " at channel ", found - m2.begin(),
                 ", a sum of squares is never negative");
}

absl::Status CheckMoments(const Moments& m) {
  constexpr int64_t kMax = std::numeric_limits<uint32_t>::max();  // of the wire's fields
  if (m.kind != MomentKind::kMeanM2 && m.kind != MomentKind::kSums) {
    return Invalid("kind is ", static_cast<int>(m.kind), ", expected 1 (mean_m2) or 2 (sums)");
  }
  if (m.precision != Precision::kF32 && m.precision != Precision::kF64) {
    return Invalid("precision is ", static_cast<int>(m.precision), ", expected 1 (f32) or 2 (f64)");
  }
  if (m.channels < 1 || m.channels > kMax) {
    return Invalid("channels is ", m.channels, ", expected 1 to ", kMax);
  }
  if (m.rows < 1 || m.rows > kMax) return Invalid("rows is ", m.rows, ", expected 1 to ", kMax);
  // Both have 32 bits, so the product fits 64.
  const uint64_t values = static_cast<uint64_t>(m.rows) * static_cast<uint64_t>(m.channels);
  if (m.values.size() != values) {
    return Invalid("rows=", m.rows, " channels=", m.channels, " needs ", values, " values, got ",
                   m.values.size());
  }
  return m.kind == MomentKind::kMeanM2 ? CheckMeanM2(m) : absl::OkStatus();
}

Bytes Share(std::string bytes) { return std::make_shared<const std::string>(std::move(bytes)); }

bool Contains(const std::vector<uint32_t>& ranks, uint32_t rank) {
  return std::binary_search(ranks.begin(), ranks.end(), rank);
}

// What the stream's own status says of the coordinator.  Codes that gRPC itself gives to
// a broken connection all mean the same to a caller.
absl::StatusCode CodeOfClosed(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kDataLoss:
      return absl::StatusCode::kUnavailable;
    default:
      return code;
  }
}

}  // namespace

Session::Session(std::string address, wire::Join join)
    : address_(std::move(address)), join_(std::move(join)) {}

std::string Session::Where() const {
  const std::string epoch = joined_.epoch == 0 ? "" : absl::StrCat(" (epoch ", joined_.epoch, ")");
  return absl::StrCat("rank ", join_.rank, " of group ", join_.group, epoch, " at ", address_);
}

absl::Status Session::Local(absl::StatusCode code, std::string text, const RoundKey& key) const {
  Failure failure;
  failure.code = code;
  failure.key = key;
  failure.key.epoch = joined_.epoch;
  failure.text = std::move(text);
  failure.group = join_.group;
  return ToStatus(failure);
}

std::vector<Bytes> Session::Start() {
  std::vector<Bytes> messages;
  if (phase_ == Phase::kAway) {
    // Those behind an unanswered round are sent again with it.
    for (const Kept& kept : kept_) {
      if (kept.round <= answered()) {
        messages.push_back(Share(codec_.Encode(wire::Restored{kept.bytes})));
      }
    }
    join_.resume = MakeResume(static_cast<uint32_t>(messages.size()));
  }
  messages.insert(messages.begin(), Share(codec_.Encode(join_)));
  return messages;
}

wire::Resume Session::MakeResume(uint32_t kept) const {
  wire::Resume resume;
  resume.run_id = joined_.run_id;
  resume.coordinator_id = joined_.coordinator_id;
  resume.epoch = joined_.epoch;
  resume.answered = answered();
  resume.kept = kept;
  resume.members = joined_.members;
  resume.finished = finished_;
  resume.first_round = joined_.epoch_first_round;
  resume.tickets = joined_.tickets;
  return resume;
}

std::vector<Bytes> Session::TakeReplay() {
  std::vector<Bytes> messages;
  if (!std::exchange(replay_, false)) return messages;
  for (const Pending& pending : pending_) messages.push_back(pending.bytes);
  // Said while the Resume, which does not tell it, was on its way.
  if (finished_ && !join_.resume->finished) {
    messages.push_back(Share(codec_.Encode(wire::Finish())));
  }
  return messages;
}

absl::Status Session::CheckOutgoing(const ReduceKey& key, const Moments& moments) const {
  absl::Status bad = CheckMoments(moments);
  if (key.layer.empty()) bad = Invalid("the layer's name is empty");
  if (bad.ok() && (key.direction < Direction::kForward || key.direction > Direction::kNone)) {
    bad = Invalid("direction is ", static_cast<int>(key.direction), ", expected 1 to 3");
  }
  if (bad.ok() && key.dtype && (*key.dtype < DType::kF32 || *key.dtype > DType::kBF16)) {
    bad = Invalid("dtype is ", static_cast<int>(*key.dtype), ", expected 1 to 4");
  }
  const wire::Limits& limits = joined_.limits;
  if (bad.ok() && key.layer.size() > limits.max_layer_name_bytes) {
    bad = absl::ResourceExhaustedError(absl::StrCat("the layer's name has ", key.layer.size(),
                                                    " bytes, the coordinator takes ",
                                                    limits.max_layer_name_bytes));
  }
  if (bad.ok() && moments.values.size() > limits.max_values) {
    bad = absl::ResourceExhaustedError(
        absl::StrCat("rows=", moments.rows, " channels=", moments.channels, " are ",
                     moments.values.size(), " values, the coordinator takes ", limits.max_values));
  }
  if (bad.ok()) return bad;
  RoundKey named;
  named.layer = key.layer;
  named.direction = key.direction;
  named.step = key.step;
  return Local(bad.code(),
               absl::StrCat("layer ", key.layer, " (", View(Name(key.direction)), ", step ",
                            key.step, "), ", Where(), ": ", bad.message()),
               named);
}

absl::StatusOr<uint64_t> Session::Submit(const ReduceKey& key, const Moments& moments,
                                         absl::Time now, Bytes* bytes, bool boundary) {
  if (phase_ == Phase::kFailed) {
    failure_noticed_ = true;
    return failure_;
  }
  if (phase_ == Phase::kLeft || finished_) {
    return Local(
        absl::StatusCode::kFailedPrecondition,
        absl::StrCat("layer ", key.layer, ": ", Where(), finished_ ? " has finished" : " has left"),
        RoundKey());
  }
  SYNCNORM_CHECK(phase_ == Phase::kJoined || phase_ == Phase::kAway);
  if (absl::Status s = CheckOutgoing(key, moments); !s.ok()) return s;
  if (pending_.size() >= kMaxPending) {
    return Local(absl::StatusCode::kResourceExhausted,
                 absl::StrCat("layer ", key.layer, ", ", Where(), ": ", pending_.size(),
                              " rounds are under way, no more are taken"),
                 RoundKey());
  }

  outgoing_.key.epoch = joined_.epoch;
  outgoing_.key.round = first_pending_ + pending_.size();
  outgoing_.key.layer = key.layer;
  outgoing_.key.direction = key.direction;
  outgoing_.key.step = key.step;
  outgoing_.dtype = key.dtype;
  outgoing_.moments = moments;
  outgoing_.answered = answered();
  outgoing_.boundary = boundary;
  Bytes encoded = Share(codec_.Encode(outgoing_));
  const uint64_t most = joined_.limits.max_message_bytes;
  if (most != 0 && encoded->size() > most) {
    return Local(absl::StatusCode::kResourceExhausted,
                 absl::StrCat("layer ", key.layer, ", ", Where(), ": a message of ",
                              encoded->size(), " bytes, the coordinator takes ", most),
                 RoundKey());
  }

  Pending& pending = pending_.emplace_back();
  pending.key = outgoing_.key;
  pending.kind = moments.kind;
  pending.precision = moments.precision;
  pending.rows = moments.rows;
  pending.channels = moments.channels;
  pending.submitted = now;
  pending.bytes = encoded;
  ++unanswered_;
  *bytes = phase_ == Phase::kJoined ? std::move(encoded) : nullptr;
  return pending.key.round;
}

void Session::Receive(wire::CoordinatorMessage* message, std::string_view raw, absl::Time now,
                      std::vector<Completion>* done) {
  if (phase_ == Phase::kFailed || phase_ == Phase::kLeft) return;
  switch (message->kind) {
    case wire::CoordinatorMessage::Kind::kResult:
      OnResult(&message->result, raw, now, done);
      break;
    case wire::CoordinatorMessage::Kind::kFailure:
      OnFailure(message->failure, raw, now, done);
      break;
    case wire::CoordinatorMessage::Kind::kJoined:
      OnJoined(&message->joined, done);
      break;
    case wire::CoordinatorMessage::Kind::kDraining:
      draining_ = std::move(message->draining.text);
      if (draining_.empty()) draining_ = "no reason given";
      break;
    case wire::CoordinatorMessage::Kind::kEpochChanged:
      OnEpochChanged(&message->epoch_changed, done);
      break;
    case wire::CoordinatorMessage::Kind::kHandover:
      if (phase_ == Phase::kJoining) OnHandover(message->handover, done);
      break;
  }
  Advance(now, done);
}

void Session::OnJoined(wire::Joined* joined, std::vector<Completion>* done) {
  if (phase_ != Phase::kJoining && phase_ != Phase::kAway) {
    Garbled(absl::InvalidArgumentError("a second Joined"), done);
    return;
  }
  if (joined->protocol_major != wire::kProtocolMajor) {
    Fail(Local(absl::StatusCode::kUnimplemented,
               absl::StrCat("the coordinator speaks protocol ", joined->protocol_major, ".",
                            joined->protocol_minor, ", ", Where(), " speaks ", wire::kProtocolMajor,
                            ".", wire::kProtocolMinor),
               RoundKey()),
         done);
    return;
  }
  if (joined->world_size != join_.world_size) {
    Garbled(
        Invalid("joined a world of ", joined->world_size, ", asked for one of ", join_.world_size),
        done);
    return;
  }
  const bool again = phase_ == Phase::kAway;
  if (again && (joined->run_id != joined_.run_id || joined->epoch < joined_.epoch)) {
    Garbled(Invalid("back in epoch ", joined->epoch, " of another run or an earlier time"), done);
    return;
  }
  if (again && !finished_) {
    // Whom a boundary admitted while this member was away.
    std::vector<uint32_t> admitted;
    std::set_difference(joined->members.begin(), joined->members.end(), joined_.members.begin(),
                        joined_.members.end(), std::back_inserter(admitted));
    if (!admitted.empty()) admission_ = Admission{std::move(admitted), /*provide=*/false};
  }
  joined_ = std::move(*joined);
  if (joined_.round_timeout <= absl::ZeroDuration()) joined_.round_timeout = join_.round_timeout;
  phase_ = Phase::kJoined;
  if (!again) {
    first_pending_ = std::max<uint64_t>(joined_.first_round, 1);
    return;
  }
  replay_ = true;
  attempts_ = 0;
  draining_.clear();
  // Only of one that has told that it has finished are the members those after a regrouping.
  if (finished_ && join_.resume->finished && Contains(joined_.members, join_.rank)) {
    TakePartAgain(joined_.first_round);
  }
}

void Session::OnHandover(const wire::Handover& piece, std::vector<Completion>* done) {
  const size_t bytes = handed_over_.size() + piece.chunk.size();
  if (bytes > kMaxState) {
    handed_over_ = {};
    Fail(Local(absl::StatusCode::kResourceExhausted,
               absl::StrCat("the state that ", Where(), " is handed has ", bytes,
                            " bytes or more, at most ", kMaxState, " are taken"),
               RoundKey()),
         done);
    return;
  }
  handed_over_ += piece.chunk;
}

void Session::OnEpochChanged(wire::EpochChanged* changed, std::vector<Completion>* done) {
  if (phase_ != Phase::kJoined) return;  // the Joined that follows tells it
  if (changed->epoch <= joined_.epoch || changed->hosts.size() != joined_.world_size) {
    Garbled(Invalid("epoch ", changed->epoch, " with ", changed->hosts.size(),
                    " hosts after epoch ", joined_.epoch, " with ", joined_.world_size),
            done);
    return;
  }
  joined_.epoch = changed->epoch;
  joined_.members = std::move(changed->members);
  joined_.hosts = std::move(changed->hosts);
  joined_.epoch_first_round = changed->first_round;
  if (!changed->admitted.empty()) {
    admission_ = Admission{std::move(changed->admitted), changed->provider == join_.rank};
  }
  if (finished_ && changed->regrouped) TakePartAgain(changed->first_round);
}

void Session::TakePartAgain(uint64_t first_round) {
  SYNCNORM_CHECK(pending_.empty());
  finished_ = false;
  first_pending_ = std::max(first_pending_, first_round);
  // Whoever takes part has all answers from before.
  Settle(answered());
}

Session::Pending* Session::Find(const RoundKey& key) {
  if (key.round < first_pending_) return nullptr;
  const uint64_t index = key.round - first_pending_;
  if (index >= pending_.size() || pending_[index].answered) return nullptr;
  // With a policy that changes members, whoever opened the round gave it its epoch.
  if (join_.on_loss == OnLoss::kFail && key.epoch != joined_.epoch) return nullptr;
  return &pending_[index];
}

bool Session::AnsweredBefore(const RoundKey& key, std::string_view raw,
                             std::vector<Completion>* done) {
  const bool old = key.round < first_pending_ || (key.round - first_pending_ < pending_.size() &&
                                                  pending_[key.round - first_pending_].answered);
  // Only who replays is answered twice.
  if (key.round == 0 || !old || !resumable()) return false;
  const auto kept = std::find_if(kept_.begin(), kept_.end(),
                                 [&](const Kept& each) { return each.round == key.round; });
  if (kept != kept_.end() && kept->bytes != raw) {
    Garbled(Invalid("another answer to ", Describe(key), " than before"), done);
  }
  return true;
}

void Session::OnResult(wire::Result* result, std::string_view raw, absl::Time now,
                       std::vector<Completion>* done) {
  if (AnsweredBefore(result->key, raw, done)) return;
  Pending* const pending = Find(result->key);
  if (pending != nullptr) pending->key.epoch = result->key.epoch;  // see Find
  if (pending == nullptr || !(pending->key == result->key)) {
    Garbled(Invalid("a result for ", Describe(result->key), " of epoch ", result->key.epoch,
                    ", which was not asked for or already answered"),
            done);
    return;
  }
  const Moments& m = result->moments;
  if (m.kind != pending->kind || m.precision != pending->precision || m.rows != pending->rows ||
      m.channels != pending->channels) {
    Garbled(Invalid("a result for ", Describe(result->key), " of shape ",
                    Shape(m.kind, m.precision, m.rows, m.channels), ", submitted was ",
                    Shape(pending->kind, pending->precision, pending->rows, pending->channels)),
            done);
    return;
  }
  last_failure_.clear();
  const uint64_t settled = result->settled;
  Answer(pending, raw, std::move(result->moments), now, done);
  Settle(settled);
}

void Session::OnFailure(const Failure& failure, std::string_view raw, absl::Time now,
                        std::vector<Completion>* done) {
  if (failure.key.round == 0) {
    // The coordinator goes down, or is not ready for those that come back: there may be another.
    if (resumable() && failure.code == absl::StatusCode::kUnavailable) {
      farewell_ = failure.text;
      return;
    }
    // Of a stream that has not joined yet the coordinator does not know whose it is.
    Fail(failure.group.empty()
             ? Local(failure.code, absl::StrCat(Where(), ": ", failure.text), RoundKey())
             : ToStatus(failure),
         done);
    return;
  }
  if (AnsweredBefore(failure.key, raw, done)) return;
  // Members may have disagreed on the layer, so its name is not held against
  // what was submitted.
  Pending* const pending = Find(failure.key);
  if (pending == nullptr) {
    Garbled(Invalid("a failure of ", Describe(failure.key), " of epoch ", failure.key.epoch,
                    ", which was not asked for or already answered: ", failure.text),
            done);
    return;
  }
  last_failure_ = failure.text;
  Answer(pending, raw, ToStatus(failure), now, done);
}

void Session::Answer(Pending* pending, std::string_view raw, absl::StatusOr<Moments> result,
                     absl::Time now, std::vector<Completion>* done) {
  answered_at_ = now;
  if (resumable()) {
    // In order but for rounds that failed ahead of their turn.
    auto at = kept_.end();
    while (at != kept_.begin() && std::prev(at)->round > pending->key.round) --at;
    std::string bytes = std::exchange(spare_, {});
    bytes.assign(raw);
    kept_.insert(at, Kept{pending->key.round, std::move(bytes)});
    if (kept_.size() > kMaxKept) kept_.pop_front();
  }
  done->push_back({pending->key.round, std::move(result)});
  pending->answered = true;
  --unanswered_;
  while (!pending_.empty() && pending_.front().answered) {
    pending_.pop_front();
    ++first_pending_;
  }
}

void Session::Settle(uint64_t settled) {
  while (!kept_.empty() && kept_.front().round <= settled) {
    spare_ = std::move(kept_.front().bytes);
    kept_.pop_front();
  }
}

void Session::Fail(absl::Status why, std::vector<Completion>* done) {
  if (phase_ == Phase::kFailed) return;
  phase_ = Phase::kFailed;
  failure_ = std::move(why);
  failure_noticed_ = unanswered_ > 0;
  for (const Pending& pending : pending_) {
    if (!pending.answered) done->push_back({pending.key.round, failure_});
  }
  first_pending_ += pending_.size();
  pending_.clear();
  kept_.clear();
  unanswered_ = 0;
}

void Session::Garbled(const absl::Status& why, std::vector<Completion>* done) {
  Fail(Local(absl::StatusCode::kInternal,
             absl::StrCat("the coordinator broke the protocol towards ", Where(), ": ",
                          why.message()),
             RoundKey()),
       done);
}

void Session::Closed(const absl::Status& why, absl::Time now, std::vector<Completion>* done) {
  if (phase_ == Phase::kFailed || phase_ == Phase::kLeft) return;
  const std::string reason =
      why.ok() ? "it ended the stream" : std::string(why.message().data(), why.message().size());
  if (resumable()) {
    if (phase_ != Phase::kAway) away_since_ = now;
    // What the coordinator itself said on this stream comes first.
    last_error_ = farewell_.empty() ? reason : std::exchange(farewell_, {});
    attempts_ += phase_ == Phase::kAway ? 1 : 0;
    phase_ = Phase::kAway;
    replay_ = false;
    Advance(now, done);
    return;
  }
  const std::string drained =
      draining_.empty() ? "" : absl::StrCat(" (it was going down: ", draining_, ")");
  const char* const what =
      phase_ == Phase::kJoining ? "no answer to the join of " : "lost the coordinator of ";
  Fail(Local(CodeOfClosed(why.code()), absl::StrCat(what, Where(), ": ", reason, drained),
             RoundKey()),
       done);
}

absl::Status Session::Away(absl::Time now) const {
  const RoundKey key = pending_.empty() ? RoundKey() : pending_.front().key;
  return Local(absl::StatusCode::kUnavailable,
               absl::StrCat("lost the coordinator of ", Where(), " ",
                            absl::FormatDuration(now - away_since_), " ago; ", attempts_,
                            " attempts to come back; last error: ", last_error_,
                            pending_.empty() ? "" : absl::StrCat("; ", Describe(key), " waits")),
               key);
}

absl::Time Session::deadline() const {
  if (pending_.empty()) return absl::InfiniteFuture();
  return pending_.front().submitted + joined_.round_timeout + kAnswerSlack;
}

std::string Session::LastAnswer(absl::Time now) const {
  if (answered_at_ == absl::InfinitePast()) return "it has answered no round yet";
  return absl::StrCat("its last answer came ", absl::FormatDuration(now - answered_at_), " before",
                      last_failure_.empty() ? "" : ": ", last_failure_);
}

void Session::Advance(absl::Time now, std::vector<Completion>* done) {
  if (pending_.empty() || now < deadline()) return;
  if (phase_ == Phase::kAway) {
    Fail(Away(now), done);
    return;
  }
  const Pending& first = pending_.front();
  Fail(Local(absl::StatusCode::kDeadlineExceeded,
             absl::StrCat("no answer from the coordinator to ", Describe(first.key), " of ",
                          Where(), " for ", absl::FormatDuration(now - first.submitted),
                          " (round timeout ", absl::FormatDuration(joined_.round_timeout), ", ",
                          unanswered_, " rounds under way); ", LastAnswer(now), "; connect again"),
             first.key),
       done);
}

void Session::Abandon(std::vector<Completion>* done) {
  if (phase_ != Phase::kJoined && phase_ != Phase::kAway) return;
  Fail(Local(absl::StatusCode::kCancelled,
             absl::StrCat(Where(), " was interrupted and left without the results of ", pending(),
                          pending() == 1 ? " round" : " rounds"),
             RoundKey()),
       done);
}

Bytes Session::Leave(std::string_view reason) {
  SYNCNORM_CHECK((phase_ == Phase::kJoined || phase_ == Phase::kAway) && pending_.empty());
  const bool away = phase_ == Phase::kAway;
  phase_ = Phase::kLeft;
  if (away) return nullptr;
  wire::Leave leave;
  leave.reason = std::string(reason);
  return Share(codec_.Encode(leave));
}

bool Session::ReturnToLeave(absl::Time now) {
  SYNCNORM_CHECK(phase_ == Phase::kLeft);
  if (!resumable()) return false;
  phase_ = Phase::kAway;
  away_since_ = now;
  attempts_ = 0;
  return true;
}

absl::StatusOr<Bytes> Session::Finish() {
  if (phase_ == Phase::kFailed) return failure_;
  if (phase_ == Phase::kLeft || join_.on_loss == OnLoss::kFail) {
    return Local(absl::StatusCode::kFailedPrecondition,
                 absl::StrCat(Where(), phase_ == Phase::kLeft
                                           ? " has left"
                                           : " cannot finish: the group's policy on_loss is fail"),
                 RoundKey());
  }
  SYNCNORM_CHECK(pending_.empty());
  // Told once; a member that comes back tells it by its Resume.
  if (std::exchange(finished_, true) || phase_ == Phase::kAway) return Bytes();
  return Share(codec_.Encode(wire::Finish()));
}

std::vector<Bytes> Session::HandOver(const absl::StatusOr<std::string>& state) {
  wire::Handover piece;
  if (!state.ok()) {
    piece.failure = state.status().ToString();
    return {Share(codec_.EncodeFromWorker(piece))};
  }
  std::vector<Bytes> messages;
  std::string_view rest = *state;
  do {
    piece.chunk = std::string(rest.substr(0, kHandoverChunk));
    rest.remove_prefix(piece.chunk.size());
    piece.last = rest.empty();
    messages.push_back(Share(codec_.EncodeFromWorker(piece)));
  } while (!piece.last);
  return messages;
}

}  // namespace syncnorm
