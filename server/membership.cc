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

std::string Newcomer(const wire::Join& join) { return Worker(join.rank, join.host, join.pid); }

}  // namespace

Membership::Membership(const wire::Join& first, absl::Time now, const Timeouts& defaults)
    : group_(first.group),
      founder_(Newcomer(first)),
      first_join_(now),
      defaults_(defaults),
      round_timeout_(Or(first.round_timeout, defaults.round)),
      join_timeout_(Or(first.join_timeout, defaults.join)),
      members_(first.world_size) {}

Membership::Joining Membership::Join(absl::Time now, StreamId stream, const wire::Join& join) {
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
  Member& member = members_[join.rank];
  Joining joining;
  if (member.state == Member::State::kHere) {
    const bool same_process =
        !join.incarnation.empty() && join.incarnation == member.incarnation && !established();
    if (!same_process) {
      return Disagree(
          absl::StatusCode::kAlreadyExists, join.rank,
          absl::StrCat(Newcomer(join), " claims a rank that ", Who(join.rank), " holds"));
    }
    joining.replaced = member.stream;
    --here_;
  }
  SYNCNORM_CHECK(!established());
  if (job_.empty() && !join.job.empty()) {
    job_ = join.job;
    job_teller_ = Newcomer(join);
  }
  ++here_;
  member = Member{Member::State::kHere, stream, join.host, join.pid, join.incarnation, now};
  round_timeout_ = std::min(round_timeout_, Or(join.round_timeout, defaults_.round));
  join_timeout_ = std::min(join_timeout_, Or(join.join_timeout, defaults_.join));
  return joining;
}

Membership::Joining Membership::Disagree(absl::StatusCode code, uint32_t rank,
                                         const std::string& text) const {
  Joining joining;
  joining.kind = established() ? Joining::Kind::kRefused : Joining::Kind::kEnded;
  joining.failure = Fail(code, RoundKey{.epoch = epoch_}, {rank},
                         absl::StrCat(Name(), ": ", text,
                                      established() ? "; the epoch goes on without the newcomer"
                                                    : "; the joining is over for all"));
  return joining;
}

void Membership::Establish(uint64_t epoch) {
  SYNCNORM_CHECK(full() && epoch > 0);
  epoch_ = epoch;
}

void Membership::Gone(uint32_t rank, Member::State how) {
  Member& member = members_[rank];
  SYNCNORM_CHECK(member.state == Member::State::kHere);
  member.state = established() ? how : Member::State::kAbsent;
  member.stream = 0;
  --here_;
}

std::vector<std::string> Membership::hosts() const {
  std::vector<std::string> hosts;
  hosts.reserve(members_.size());
  for (const Member& member : members_) hosts.push_back(member.host);
  return hosts;
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
  if (established()) absl::StrAppend(&name, " epoch ", epoch_);
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
  const std::vector<uint32_t> missing = In(Member::State::kAbsent);
  const std::vector<uint32_t> present = In(Member::State::kHere);
  std::string text = absl::StrCat(Name(), ": ", Ranks(missing), " of world_size ", size(),
                                  " did not join within ", InSeconds(join_timeout_));
  if (!present.empty()) absl::StrAppend(&text, "; present: ", Ranks(present));
  return Fail(absl::StatusCode::kDeadlineExceeded, RoundKey(), missing, std::move(text));
}

}  // namespace syncnorm::server
