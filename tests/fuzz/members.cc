#include "tests/fuzz/members.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/fuzz/require.h"

namespace syncnorm::fuzz {
namespace {

// Strangers that stay at once: fewer than the streams that are left for them.
constexpr size_t kStrangers = 3;
// Rounds that a worker has under way: as many as can be open, and one more.
constexpr size_t kUnderWay = 5;

Bytes Share(std::string bytes) { return std::make_shared<const std::string>(std::move(bytes)); }

server::Settings SettingsOf(const Members::Plan& plan) {
  server::Settings settings = SmallSettings();
  settings.timeouts.replace_duplicates = plan.replace_duplicates;
  if (!plan.grace) settings.timeouts.reconnect = absl::ZeroDuration();
  return settings;
}

// All members contribute to a boundary in every third round.
bool IsBoundary(uint64_t round) { return round % 3 == 0; }

ReduceKey KeyOf(uint64_t round) {
  ReduceKey key;
  key.layer = IsBoundary(round) ? "boundary" : "bn1";
  key.direction = Direction::kForward;
  key.step = round;
  return key;
}

}  // namespace

Members::Members(const Plan& plan)
    : plan_(plan),
      shell_(SettingsOf(plan)),
      ledger_(plan.world, plan.on_loss == OnLoss::kFail && plan.non_finite != NonFinite::kDrop) {}

wire::Join Members::MakeJoin(uint32_t rank, uint32_t life) const {
  wire::Join join;
  join.group = "world";
  join.rank = rank;
  join.world_size = plan_.world;
  join.host = absl::StrCat("h", rank / 2);
  join.pid = 100 * (rank + 1) + life;
  join.incarnation = absl::StrCat("rank", rank, "life", life);
  join.incarnation.resize(wire::kIncarnationBytes, '-');
  join.ticket = join.pid;
  join.round_timeout = absl::Seconds(60);
  join.join_timeout = absl::Seconds(120);
  join.on_loss = plan_.on_loss;
  join.non_finite = plan_.non_finite;
  return join;
}

bool Members::Absent(uint32_t rank) const {
  const Session* session = workers_[rank].session.get();
  return session == nullptr || session->phase() == Session::Phase::kFailed ||
         session->phase() == Session::Phase::kLeft;
}

void Members::Start(uint32_t rank) {
  Worker& worker = workers_[rank];
  const uint32_t life = worker.session == nullptr ? worker.life : worker.life + 1;
  if (worker.stream != 0) shell_.Break(worker.stream);
  ledger_.Died(rank);
  worker = Worker();
  worker.life = life;
  worker.session = std::make_unique<Session>("fuzz:1", MakeJoin(rank, life));
  Return(rank);
}

void Members::Return(uint32_t rank) {
  Worker& worker = workers_[rank];
  if (worker.session == nullptr || worker.stream != 0) return;
  const Session::Phase phase = worker.session->phase();
  if (phase != Session::Phase::kJoining && phase != Session::Phase::kAway) return;
  worker.stream = shell_.Open();
  Send(rank, worker.session->Start());
}

void Members::Send(uint32_t rank, const std::vector<Bytes>& messages) {
  for (const Bytes& message : messages) {
    if (message != nullptr) shell_.Send(workers_[rank].stream, message);
  }
}

bool Members::Submit(uint32_t rank, double value) {
  Worker& worker = workers_[rank];
  if (worker.session == nullptr || worker.boundary != 0) return false;
  const Session::Phase phase = worker.session->phase();
  if (phase != Session::Phase::kJoined && phase != Session::Phase::kAway) return false;
  if (worker.session->finished() || worker.session->pending() >= kUnderWay) return false;
  Moments moments = Moments::Sums(1, 1, Precision::kF64);
  moments.count = Mark(rank, worker.life);
  moments.values[0] = value;
  const bool boundary = plan_.on_loss == OnLoss::kShrink && IsBoundary(worker.next);
  Bytes bytes;
  const absl::StatusOr<uint64_t> round =
      worker.session->Submit(KeyOf(worker.next), moments, shell_.now(), &bytes, boundary);
  SYNCNORM_REQUIRE(round.ok(), absl::StrCat("a member may submit: ", round.status().message()));
  SYNCNORM_REQUIRE(*round == worker.next,
                   absl::StrCat("rounds count on: ", *round, " is not ", worker.next));
  worker.submitted.insert(*round);
  worker.next = *round + 1;
  if (boundary) worker.boundary = *round;
  Send(rank, {bytes});
  return true;
}

void Members::Submit(uint32_t rank) {
  Submit(rank, static_cast<double>(Mark(rank, workers_[rank].life)));
}

void Members::SubmitNaN(uint32_t rank) { Submit(rank, std::numeric_limits<double>::quiet_NaN()); }

void Members::Leave(uint32_t rank) {
  Worker& worker = workers_[rank];
  if (worker.session == nullptr || worker.session->pending() > 0) return;
  const Session::Phase phase = worker.session->phase();
  if (phase != Session::Phase::kJoined && phase != Session::Phase::kAway) return;
  Send(rank, {worker.session->Leave("done")});
}

void Members::FinishData(uint32_t rank) {
  Worker& worker = workers_[rank];
  if (worker.session == nullptr || worker.session->pending() > 0) return;
  if (worker.session->phase() == Session::Phase::kJoining) return;
  if (const absl::StatusOr<Bytes> bytes = worker.session->Finish(); bytes.ok()) {
    Send(rank, {*bytes});
  }
}

void Members::Read(uint32_t rank) { shell_.Read(workers_[rank].stream); }

bool Members::TakeOne(uint32_t rank) {
  Worker& worker = workers_[rank];
  if (worker.stream == 0) return false;
  const Bytes bytes = shell_.Take(worker.stream);
  if (bytes != nullptr) {
    if (!worker.deaf) Receive(rank, bytes);
    return true;
  }
  if (shell_.open(worker.stream)) return false;
  Closed(rank, worker.deaf ? "lost" : "");
  return true;
}

void Members::Take(uint32_t rank) { TakeOne(rank); }

void Members::Receive(uint32_t rank, const Bytes& bytes) {
  Worker& worker = workers_[rank];
  Session& session = *worker.session;
  const bool joining = session.phase() == Session::Phase::kJoining;
  const bool finished = session.finished();
  if (!codec_.Decode(*bytes, &incoming_).ok()) {
    Broken(__FILE__, __LINE__, "a coordinator's message can be decoded");
  }
  if (incoming_.kind == wire::CoordinatorMessage::Kind::kResult &&
      session.phase() == Session::Phase::kJoined) {
    ledger_.Add(session.joined().run_id, rank, incoming_.result, *bytes);
  }
  session.Receive(&incoming_, *bytes, shell_.now(), &done_);
  const wire::Joined& joined = session.joined();
  if (joining && session.phase() == Session::Phase::kJoined) {
    worker.next = std::max<uint64_t>(joined.first_round, 1);
  } else if (finished && !session.finished()) {
    const bool again = incoming_.kind == wire::CoordinatorMessage::Kind::kJoined;
    worker.next = std::max(worker.next, again ? joined.first_round : joined.epoch_first_round);
  }
  Settle(rank);
}

void Members::Settle(uint32_t rank) {
  Worker& worker = workers_[rank];
  Session& session = *worker.session;
  for (const Session::Completion& completion : done_) {
    SYNCNORM_REQUIRE(worker.submitted.erase(completion.round) == 1,
                     absl::StrCat("round ", completion.round, " of rank ", rank, " ends once"));
    if (completion.round == worker.boundary) worker.boundary = 0;
  }
  done_.clear();
  SYNCNORM_REQUIRE(session.pending() == worker.submitted.size(), "what is pending was submitted");
  if (session.phase() == Session::Phase::kFailed) {
    SYNCNORM_REQUIRE(
        worker.lied || !absl::StrContains(session.failure().message(), "broke the protocol"),
        absl::StrCat("rank ", rank, ": ", session.failure().message()));
    Drop(rank, /*noticed=*/true);
    return;
  }
  Send(rank, session.TakeReplay());
  if (const auto admission = session.TakeAdmission(); admission.has_value() && admission->provide) {
    Send(rank, session.HandOver("state"));
  }
}

void Members::Closed(uint32_t rank, const std::string& why) {
  Worker& worker = workers_[rank];
  worker.stream = 0;
  worker.deaf = false;
  worker.session->Closed(why.empty() ? absl::OkStatus() : absl::UnavailableError(why), shell_.now(),
                         &done_);
  Settle(rank);
}

void Members::Drop(uint32_t rank, bool noticed) {
  Worker& worker = workers_[rank];
  const StreamId stream = std::exchange(worker.stream, 0);
  worker.deaf = false;
  if (stream == 0) return;
  shell_.Break(stream);
  if (noticed) shell_.Disconnect(stream);
}

void Members::Run() {
  // A message makes at most a few others: the end is far below this.
  for (int i = 0; i < 10'000; ++i) {
    bool moved = false;
    for (uint32_t rank = 0; rank < plan_.world; ++rank) {
      moved |= shell_.Read(workers_[rank].stream);
      moved |= TakeOne(rank);
    }
    for (const StreamId stranger : strangers_) {
      moved |= shell_.Read(stranger);
      while (shell_.Take(stranger) != nullptr) {
      }
    }
    if (!moved) return;
  }
  Broken(__FILE__, __LINE__, "messages come to an end");
}

void Members::Break(uint32_t rank, bool noticed) {
  Worker& worker = workers_[rank];
  if (worker.stream == 0) return;
  Drop(rank, noticed);
  Closed(rank, "connection reset");
}

void Members::Kill(uint32_t rank, bool noticed) {
  Worker& worker = workers_[rank];
  if (worker.session == nullptr) return;
  Drop(rank, noticed);
  ledger_.Died(rank);
  const uint32_t life = worker.life + 1;
  worker = Worker();
  worker.life = life;
}

void Members::Deafen(uint32_t rank) { workers_[rank].deaf = true; }

void Members::CutOff(uint32_t rank) {
  Worker& worker = workers_[rank];
  if (worker.stream == 0) return;
  shell_.CutOff(worker.stream);
  Closed(rank, "cancelled");
}

wire::Contribution Members::MakeContribution(uint32_t rank, uint64_t round) const {
  const Worker& worker = workers_[rank];
  wire::Contribution contribution;
  const ReduceKey key = KeyOf(round);
  contribution.key = {worker.session->epoch(), round, key.layer, key.direction, key.step};
  contribution.boundary = plan_.on_loss == OnLoss::kShrink && IsBoundary(round);
  contribution.moments = Moments::Sums(1, 1, Precision::kF64);
  contribution.moments.count = OtherMark(rank);
  contribution.moments.values[0] = static_cast<double>(OtherMark(rank));
  return contribution;
}

void Members::Tell(uint32_t rank, Lie lie) {
  Worker& worker = workers_[rank];
  if (worker.session == nullptr || worker.stream == 0) return;
  worker.lied = true;
  const uint64_t last = std::max<uint64_t>(worker.next, 2) - 1;
  wire::Contribution contribution = MakeContribution(rank, last);
  std::string bytes;
  switch (lie) {
    case Lie::kChanged:
      break;
    case Lie::kLate:
      contribution = MakeContribution(rank, 1);
      break;
    case Lie::kFuture:
      contribution = MakeContribution(rank, worker.next + 2);
      break;
    case Lie::kOtherLayer:
      contribution = MakeContribution(rank, worker.next);
      contribution.key.layer = "other";
      break;
    case Lie::kOtherShape:
      contribution = MakeContribution(rank, worker.next);
      contribution.moments = Moments::Sums(2, 3, Precision::kF32);
      contribution.moments.count = OtherMark(rank);
      contribution.moments.values.assign(6, static_cast<double>(OtherMark(rank)));
      break;
    case Lie::kOldEpoch:
      contribution.key.epoch += worker.next % 2 == 0 ? 1 : -1;
      break;
    case Lie::kGarbage:
      bytes = "\xff\xff\xff";
      break;
    case Lie::kRestored:
      bytes = codec_.Encode(wire::Restored{"answer"});
      break;
    case Lie::kHandover:
      bytes = codec_.EncodeFromWorker(wire::Handover{"state", false});
      break;
    case Lie::kJoin:
      bytes = codec_.Encode(MakeJoin(rank, worker.life));
      break;
  }
  if (bytes.empty()) bytes = codec_.Encode(contribution);
  shell_.Send(worker.stream, Share(std::move(bytes)));
}

void Members::Come(Stranger stranger, uint32_t rank) {
  if (strangers_.size() == kStrangers) {
    shell_.Disconnect(strangers_.front());
    strangers_.pop_front();
  }
  const StreamId stream = shell_.Open();
  strangers_.push_back(stream);
  wire::Join join = MakeJoin(rank, 9);
  join.incarnation.assign(wire::kIncarnationBytes, 'x');
  wire::Resume resume;
  resume.run_id = 0xbad;
  resume.coordinator_id = 0xbad;
  resume.epoch = 1;
  switch (stranger) {
    case Stranger::kSilent:
      return;
    case Stranger::kGarbage:
      shell_.Send(stream, Share("GET / HTTP/1.1\r\n\r\n"));
      return;
    case Stranger::kEarly: {
      wire::Contribution contribution;
      contribution.key = {1, 1, "bn1", Direction::kForward, 1};
      contribution.moments = Moments::Sums(1, 1, Precision::kF64);
      shell_.Send(stream, Share(codec_.Encode(contribution)));
      return;
    }
    case Stranger::kOtherWorld:
      join.world_size = plan_.world + 1;
      break;
    case Stranger::kOtherPolicy:
      join.on_loss = join.on_loss == OnLoss::kFail ? OnLoss::kShrink : OnLoss::kFail;
      break;
    case Stranger::kClaim:
      break;
    case Stranger::kFalseResume:
      join.resume = resume;
      break;
    case Stranger::kOtherGroup:
      join.group = absl::StrCat("other", rank);
      join.world_size = 5;
      join.rank = 4;
      break;
    case Stranger::kTruncated:
      resume.answered = 7;
      resume.kept = 2;
      join.resume = resume;
      break;
  }
  shell_.Send(stream, Share(codec_.Encode(join)));
}

void Members::Pass(absl::Duration time) {
  shell_.Pass(time);
  for (uint32_t rank = 0; rank < plan_.world; ++rank) {
    if (workers_[rank].session == nullptr) continue;
    workers_[rank].session->Advance(shell_.now(), &done_);
    Settle(rank);
  }
}

void Members::PassToDeadline() {
  absl::Time next = shell_.core().NextDeadline();
  for (const Worker& worker : workers_) {
    if (worker.session != nullptr) next = std::min(next, worker.session->deadline());
  }
  if (next != absl::InfiniteFuture()) Pass(std::max(next - shell_.now(), absl::ZeroDuration()));
}

void Members::Restart() {
  shell_.Restart();
  ledger_.CoordinatorRestarted();
  strangers_.clear();
  for (uint32_t rank = 0; rank < plan_.world; ++rank) {
    if (workers_[rank].stream != 0) Closed(rank, "connection reset");
  }
}

void Members::Finish() {
  // Beyond the longest timer of all, the join's.
  for (int i = 0; i < 8; ++i) {
    shell_.Notice();
    for (uint32_t rank = 0; rank < plan_.world; ++rank) Return(rank);
    Run();
    Pass(absl::Seconds(30));
  }
  Run();
  for (uint32_t rank = 0; rank < plan_.world; ++rank) {
    SYNCNORM_REQUIRE(workers_[rank].submitted.empty(),
                     absl::StrCat("rank ", rank, " still waits for ",
                                  workers_[rank].submitted.size(), " rounds"));
  }
  shell_.Finish();
}

}  // namespace syncnorm::fuzz
