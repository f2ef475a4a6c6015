#include "server/membership.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "server/names.h"

namespace syncnorm::server {
namespace {

absl::Duration Or(absl::Duration told, absl::Duration usual) {
  return told > absl::ZeroDuration() ? told : usual;
}

std::string Quoted(const std::string& text) { return absl::StrCat("\"", text, "\""); }

// This Abseil's string_view is not the standard one.
template <typename Policy>
std::string NameOf(Policy policy) {
  return std::string(Name(policy));
}

std::string Newcomer(const wire::Join& join) { return Worker(join.rank, join.host, join.pid); }

bool Same(uint64_t ticket, uint64_t other) { return ticket != 0 && ticket == other; }

bool Holds(const std::vector<uint64_t>& tickets, uint32_t rank, uint64_t ticket) {
  return rank < tickets.size() && Same(ticket, tickets[rank]);
}

}  // namespace

Membership::Membership(const wire::Join& first, absl::Time now, const Timeouts& defaults)
    : group_(first.group),
      founder_(Newcomer(first)),
      on_loss_(first.on_loss),
      non_finite_(first.non_finite),
      first_join_(now),
      defaults_(defaults),
      resume_(defaults.resume),
      round_timeout_(Or(first.round_timeout, defaults.round)),
      join_timeout_(Or(first.join_timeout, defaults.join)),
      members_(first.world_size) {
  for (Member& member : members_) member.takes_part = true;
  if (first.resume.has_value()) resumed_run_ = first.resume->run_id;
}

Membership::Joining Membership::Join(absl::Time now, StreamId stream, const wire::Join& join) {
  if (std::optional<Joining> disagree = CheckAgreement(join)) return *std::move(disagree);
  if (established()) return JoinEstablished(now, stream, join);
  Joining joining;
  if (resuming()) {
    joining = JoinResuming(join);
  }
  if (joining.kind != Joining::Kind::kSeated) return joining;
  const Member& member = members_[join.rank];
  if (member.state == Member::State::kHere) {
    if (join.incarnation.empty() || join.incarnation != member.incarnation) {
      return Disagree(
          absl::StatusCode::kAlreadyExists, join.rank,
          absl::StrCat(Newcomer(join), " claims a rank that ", Who(join.rank), " holds"));
    }
    joining.replaced = member.stream;
    joining.again = join.resume.has_value() || Same(join.ticket, member.ticket);
  }
  Seat(now, stream, join, &joining);
  return joining;
}

std::optional<Membership::Joining> Membership::CheckAgreement(const wire::Join& join) const {
  if (join.world_size != size()) {
    return Disagree(absl::StatusCode::kAborted, join.rank,
                    absl::StrCat(Newcomer(join), " says world_size ", join.world_size, ", ",
                                 founder_, " said ", size(), " before"));
  }
  if (join.rank >= size()) {
    return Disagree(absl::StatusCode::kInvalidArgument, join.rank,
                    absl::StrCat(Newcomer(join), " has a rank outside of world_size ", size()));
  }
  if (!join.job.empty() && !job_.empty() && join.job != job_) {
    return Disagree(absl::StatusCode::kAlreadyExists, join.rank,
                    absl::StrCat(Newcomer(join), " belongs to job ", Quoted(join.job), ", ",
                                 job_teller_, " to job ", Quoted(job_)));
  }
  if (join.on_loss != on_loss_) {
    return Disagree(absl::StatusCode::kAborted, join.rank,
                    absl::StrCat(Newcomer(join), " says on_loss ", NameOf(join.on_loss), ", ",
                                 founder_, " said ", NameOf(on_loss_), " before"));
  }
  if (join.non_finite != non_finite_) {
    return Disagree(absl::StatusCode::kAborted, join.rank,
                    absl::StrCat(Newcomer(join), " says non_finite ", NameOf(join.non_finite), ", ",
                                 founder_, " said ", NameOf(non_finite_), " before"));
  }
  return std::nullopt;
}

Membership::Joining Membership::JoinEstablished(absl::Time now, StreamId stream,
                                                const wire::Join& join) {
  const Member& member = members_[join.rank];
  const bool holds = member.state == Member::State::kHere || member.state == Member::State::kAway;
  const bool same_process = !join.incarnation.empty() && join.incarnation == member.incarnation;
  Joining joining;
  if (join.resume.has_value() && (!holds || !same_process)) {
    return Refused(
        absl::StatusCode::kFailedPrecondition, join.rank,
        absl::StrCat("fenced: ", Newcomer(join), " resumes epoch ", join.resume->epoch,
                     ", in which its rank is ",
                     holds ? absl::StrCat("held by ", Who(join.rank)) : "not held by it any more",
                     "; join again"));
  }
  const bool same = holds && same_process && Same(join.ticket, member.ticket);
  if (same && member.knows && !join.resume.has_value()) return Late(join);
  // It comes back, or has not heard that it is a member.
  if (join.resume.has_value() || same) {
    joining.kind = Joining::Kind::kReturned;
    joining.again = true;
    if (member.state == Member::State::kHere) joining.replaced = member.stream;
    Seat(now, stream, join, &joining);
    return joining;
  }
  if (!holds) {
    joining.kind = Joining::Kind::kVacant;
  } else if (member.state == Member::State::kAway || same_process || defaults_.replace_duplicates) {
    joining.kind = Joining::Kind::kReplaces;
  } else {
    return Disagree(absl::StatusCode::kAlreadyExists, join.rank,
                    absl::StrCat(Newcomer(join), " claims a rank that ", Who(join.rank), " holds"));
  }
  return joining;
}

// The seat is taken by the caller if this says kSeated.
Membership::Joining Membership::JoinResuming(const wire::Join& join) {
  if (!join.resume.has_value()) return JoinAnew(join);
  Joining joining;
  const wire::Resume& resume = *join.resume;
  if (resume.epoch > resumed_epoch_) Learn(resume, &joining);
  Member& member = members_[join.rank];
  const bool another =
      member.state == Member::State::kHere && member.incarnation != join.incarnation;
  // Of two processes of one rank the one that knows of the later epoch took the other's place.
  const bool superseded = another && resume.epoch < member.epoch;
  if (superseded || (!member.takes_part && (!resume.finished || member.anew))) {
    // Whom Learn() fenced is in the same place: no member of the latest epoch.
    std::vector<StreamId> fenced = std::move(joining.fenced);
    joining = Refused(absl::StatusCode::kFailedPrecondition, join.rank,
                      absl::StrCat("fenced: ", Newcomer(join), " resumes epoch ", resume.epoch,
                                   ", and is no member of epoch ", resumed_epoch_, "; join again"));
    joining.fenced = std::move(fenced);
  } else if (another && resume.epoch > member.epoch) {
    Fence(join.rank, &joining);
  }
  return joining;
}

// A worker that knows of no run, where others resume one.
Membership::Joining Membership::JoinAnew(const wire::Join& join) {
  Joining joining;
  Member& member = members_[join.rank];
  if (member.state == Member::State::kHere && join.incarnation != member.incarnation) {
    return Refused(absl::StatusCode::kAlreadyExists, join.rank,
                   absl::StrCat(Newcomer(join), " claims a rank that ", Who(join.rank), " holds"));
  }
  const bool unheard = Holds(tickets_, join.rank, join.ticket) && member.takes_part;
  if (unheard && member.state == Member::State::kHere && member.knows) return Late(join);
  if (on_loss_ != OnLoss::kShrink) {
    if (unheard) return joining;
    return End(absl::StatusCode::kAborted, join.rank,
               absl::StrCat(Newcomer(join), " has started anew, so that epoch ", resumed_epoch_,
                            " cannot be resumed"));
  }
  // Rounds may have gone on without it, or it lacks the state of those that it was admitted to.
  const auto started = [](const Member& other) { return other.answered > 0 || other.finished; };
  if (unheard && std::none_of(members_.begin(), members_.end(), started)) return joining;
  if (member.state == Member::State::kHere) {
    joining.replaced = member.stream;
    Gone(join.rank, Member::State::kLost);
  }
  member.takes_part = false;
  member.anew = true;
  joining.kind = Joining::Kind::kVacant;
  return joining;
}

void Membership::Learn(const wire::Resume& resume, Joining* joining) {
  resumed_epoch_ = resume.epoch;
  resumed_first_round_ = std::max<uint64_t>(resume.first_round, 1);
  resumed_.assign(size(), false);
  for (const uint32_t rank : resume.members) resumed_[rank] = true;
  tickets_ = resume.tickets;
  for (uint32_t rank = 0; rank < size(); ++rank) {
    Member& member = members_[rank];
    const bool here = member.state == Member::State::kHere;
    member.takes_part = resumed_[rank] && (here || !member.anew);
    if (!here || member.takes_part || member.finished) continue;
    Fence(rank, joining);
  }
}

void Membership::Fence(uint32_t rank, Joining* joining) {
  joining->fenced.push_back(members_[rank].stream);
  joining->failure =
      Fail(absl::StatusCode::kFailedPrecondition, RoundKey{.epoch = resumed_epoch_}, {},
           absl::StrCat(Name(), ": fenced: no member of epoch ", resumed_epoch_, "; join again"));
  Gone(rank, Member::State::kLost);
}

void Membership::Seat(absl::Time now, StreamId stream, const wire::Join& join, Joining* joining) {
  Member& member = members_[join.rank];
  if (member.state == Member::State::kAway) --away_;
  if (member.state != Member::State::kHere) ++here_;
  if (job_.empty() && !join.job.empty()) {
    job_ = join.job;
    job_teller_ = Newcomer(join);
  }
  round_timeout_ = std::min(round_timeout_, Or(join.round_timeout, defaults_.round));
  join_timeout_ = std::min(join_timeout_, Or(join.join_timeout, defaults_.join));
  if (joining->kind == Joining::Kind::kReturned) {
    member.state = Member::State::kHere;
    member.stream = stream;
    member.heard = now;
    member.kept = join.resume.has_value() ? join.resume->kept : 0;
    member.knows = join.resume.has_value();
    member.joined = false;
    member.received = 0;
    return;
  }
  const bool takes_part = member.takes_part;
  member = Member{Member::State::kHere, stream, join.host, join.pid, join.incarnation, now};
  member.takes_part = takes_part;
  member.acknowledges = join.protocol_minor >= 1;
  member.ticket = join.ticket;
  if (!join.resume.has_value()) return;
  member.knows = true;
  member.epoch = join.resume->epoch;
  member.kept = join.resume->kept;
  member.answered = join.resume->answered;
  member.finished = join.resume->finished;
}

Membership::Joining Membership::Late(const wire::Join& join) const {
  return Refused(
      absl::StatusCode::kFailedPrecondition, join.rank,
      absl::StrCat(Newcomer(join), " joins, but has shown since that it knows that it has joined"));
}

Membership::Joining Membership::Refused(absl::StatusCode code, uint32_t rank,
                                        const std::string& text) const {
  Joining joining;
  joining.kind = Joining::Kind::kRefused;
  joining.failure = Fail(code, RoundKey{.epoch = epoch_}, {rank}, absl::StrCat(Name(), ": ", text));
  return joining;
}

Membership::Joining Membership::Disagree(absl::StatusCode code, uint32_t rank,
                                         const std::string& text) const {
  if (established()) {
    return Refused(code, rank, absl::StrCat(text, "; the epoch goes on without the newcomer"));
  }
  if (resuming()) {
    return Refused(code, rank, absl::StrCat(text, "; the run is resumed without the newcomer"));
  }
  return End(code, rank, text);
}

Membership::Joining Membership::End(absl::StatusCode code, uint32_t rank,
                                    const std::string& text) const {
  Joining joining = Refused(code, rank, absl::StrCat(text, "; the joining is over for all"));
  joining.kind = Joining::Kind::kEnded;
  return joining;
}

bool Membership::full() const {
  if (here_ == 0) return false;
  return std::all_of(members_.begin(), members_.end(), [this](const Member& member) {
    if (member.state == Member::State::kHere) return member.kept == 0;
    return !member.takes_part && on_loss_ != OnLoss::kFinish;
  });
}

void Membership::GiveUpAbsent() {
  for (Member& member : members_) {
    if (member.state == Member::State::kHere) continue;
    member.takes_part = false;
  }
}

// One that says that it has finished, and is a member of the latest epoch, either has not heard yet
// that all had, or was not heard itself.
bool Membership::Reconcile() {
  const bool all =
      std::all_of(resumed_.begin(), resumed_.end(), [](bool member) { return member; });
  bool changed = false;
  for (uint32_t rank = 0; rank < size(); ++rank) {
    Member& member = members_[rank];
    if (member.finished && member.takes_part) {
      // Under kFinish an epoch of all that is not the first is one in which all take part again.
      // Under kShrink what tells is that rounds were not waiting for it.
      const bool again =
          member.epoch < resumed_epoch_ &&
          (on_loss_ == OnLoss::kFinish ? all : resumed_first_round_ > member.answered + 1);
      if (again) {
        member.finished = false;
        member.answered = resumed_first_round_ - 1;
        regrouped_ = true;
      } else {
        member.takes_part = false;
      }
    }
    changed |= member.takes_part != resumed_[rank];
  }
  return changed;
}

void Membership::Establish(uint64_t epoch, uint64_t first_round) {
  SYNCNORM_CHECK(epoch > epoch_);
  epoch_ = epoch;
  first_round_ = first_round;
}

void Membership::Admit(uint32_t rank, Member member) {
  Member& seat = members_[rank];
  SYNCNORM_CHECK(established() && member.state == Member::State::kHere);
  SYNCNORM_CHECK(seat.state != Member::State::kHere && seat.state != Member::State::kAway);
  ++here_;
  seat = std::move(member);
  seat.takes_part = true;
  seat.ticket = 0;
}

void Membership::Gone(uint32_t rank, Member::State how, absl::Time now) {
  Member& member = members_[rank];
  SYNCNORM_CHECK(member.state == Member::State::kHere || member.state == Member::State::kAway);
  if (member.state == Member::State::kHere) --here_;
  if (member.state == Member::State::kAway) --away_;
  member.state = established() ? how : Member::State::kAbsent;
  if (member.state == Member::State::kAway) {
    ++away_;
    member.away = now;
  }
  member.stream = 0;
}

bool Membership::Brought(uint32_t rank) {
  Member& member = members_[rank];
  if (member.kept == 0) return false;
  --member.kept;
  return true;
}

bool Membership::AreOf(const std::vector<uint64_t>& tickets) const {
  for (uint32_t rank = 0; rank < size(); ++rank) {
    const Member& member = members_[rank];
    if (member.state == Member::State::kHere && !Holds(tickets, rank, member.ticket)) return false;
  }
  return true;
}

std::vector<bool> Membership::taking_part() const {
  std::vector<bool> taking_part(members_.size());
  for (uint32_t rank = 0; rank < size(); ++rank) taking_part[rank] = members_[rank].takes_part;
  return taking_part;
}

std::vector<uint32_t> Membership::participants() const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (members_[rank].takes_part) ranks.push_back(rank);
  }
  return ranks;
}

std::vector<uint64_t> Membership::answered() const {
  std::vector<uint64_t> answered;
  answered.reserve(members_.size());
  for (const Member& member : members_) answered.push_back(member.answered);
  return answered;
}

std::vector<std::string> Membership::hosts() const {
  std::vector<std::string> hosts;
  hosts.reserve(members_.size());
  for (const Member& member : members_) hosts.push_back(member.host);
  return hosts;
}

std::vector<uint64_t> Membership::tickets() const {
  std::vector<uint64_t> tickets;
  tickets.reserve(members_.size());
  for (const Member& member : members_) tickets.push_back(member.ticket);
  return tickets;
}

std::vector<uint32_t> Membership::In(Member::State state) const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (members_[rank].state == state) ranks.push_back(rank);
  }
  return ranks;
}

std::string Membership::Who(uint32_t rank) const {
  return Worker(rank, members_[rank].host, members_[rank].pid);
}

std::string Membership::Name() const {
  std::string name = absl::StrCat("group ", Quoted(group_));
  if (const uint64_t epoch = std::max(epoch_, resumed_epoch_); epoch != 0) {
    absl::StrAppend(&name, " epoch ", epoch);
  }
  return name;
}

Failure Membership::Fail(absl::StatusCode code, RoundKey key, std::vector<uint32_t> ranks,
                         std::string text) const {
  Failure failure;
  failure.code = code;
  failure.key = std::move(key);
  failure.text = std::move(text);
  failure.group = group_;
  failure.hosts.reserve(ranks.size());
  for (const uint32_t rank : ranks) {
    failure.hosts.push_back(rank < size() ? members_[rank].host : std::string());
  }
  failure.ranks = std::move(ranks);
  return failure;
}

Failure Membership::JoinDeadline() const {
  std::vector<uint32_t> missing, present;
  for (uint32_t rank = 0; rank < size(); ++rank) {
    if (members_[rank].state == Member::State::kHere) {
      present.push_back(rank);
    } else if (members_[rank].takes_part) {
      missing.push_back(rank);
    }
  }
  std::string text = resuming()
                         ? absl::StrCat(Name(), ": ", missing.empty() ? "members" : Ranks(missing),
                                        " did not resume within ", InSeconds(resume_),
                                        ", after the coordinator was started again")
                         : absl::StrCat(Name(), ": ", Ranks(missing), " of world_size ", size(),
                                        " did not join within ", InSeconds(join_timeout_));
  if (!present.empty()) absl::StrAppend(&text, "; present: ", Ranks(present));
  return Fail(absl::StatusCode::kDeadlineExceeded, RoundKey(), missing, std::move(text));
}

}  // namespace syncnorm::server
