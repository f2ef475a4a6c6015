#include "tests/sim/judge.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"

namespace syncnorm::sim {
namespace {

// Rounds of a run that are remembered: more than any member can be behind another, whose windows
// are at most 200.
constexpr size_t kRemembered = 1000;
// Sets of members that are tried before a result counts as unexplained.
constexpr int kMostTries = 1 << 20;

bool Finite(const Moments& moments) {
  return std::all_of(moments.values.begin(), moments.values.end(),
                     [](double value) { return std::isfinite(value); });
}

}  // namespace

std::string Who::Name() const {
  return absl::StrCat("g", group, "/", rank, life == 0 ? "" : absl::StrCat(".", life));
}

Judge::Judge(const Timeline* timeline, const Plan* plan, Log* log)
    : timeline_(timeline),
      plan_(plan),
      log_(log),
      excused_(plan->groups.size(), absl::InfinitePast()) {}

void Judge::Excuse(uint32_t group, absl::Time until, const std::string& why) {
  log_->Add("! ", why, " (group g", group, ")");
  excused_[group] = std::max(excused_[group], until);
}

void Judge::ExcuseAll(absl::Time until, const std::string& why) {
  for (uint32_t group = 0; group < excused_.size(); ++group) Excuse(group, until, why);
}

bool Judge::Excused(uint32_t group) const { return timeline_->now() <= excused_[group]; }

void Judge::Report(const std::string& invariant, const std::string& text) {
  log_->Add("VIOLATION of ", invariant, ": ", text);
  if (!violation_.has_value()) violation_ = Violation{invariant, text};
}

Judge::Run& Judge::At(uint64_t id, uint32_t group) {
  const auto [it, added] = runs_.try_emplace(id);
  Run& run = it->second;
  if (added) {
    run.group = group;
    run.seats.resize(plan_->groups[group].size);
    ++tally_.runs;
  }
  if (run.group != group) {
    Report("agreement", absl::StrCat("run ", id, " is of g", run.group, " and of g", group));
  }
  return run;
}

void Judge::CheckEpoch(const Who& who, Run* run, uint64_t epoch,
                       const std::vector<uint32_t>& members) {
  const auto [it, added] = run->epochs.try_emplace(epoch, members);
  if (added || it->second == members) return;
  Report("agreement", absl::StrCat(who.Name(), " learned that epoch ", epoch, " has members ",
                                   absl::StrJoin(members, ","), ", others that it has ",
                                   absl::StrJoin(it->second, ",")));
}

void Judge::Joined(const Who& who, const wire::Joined& joined, bool resumed) {
  Run& run = At(joined.run_id, who.group);
  CheckEpoch(who, &run, joined.epoch, joined.members);
  Seat& seat = run.seats[who.rank];
  // What one that was stopped reads late is of a time before another had its rank.
  if (resumed || joined.epoch < seat.epoch) return;
  if (seat.holder.has_value() && GroupOf(who).on_loss != OnLoss::kShrink) {
    Report("fencing", absl::StrCat(who.Name(), " joined a run in which ", seat.holder->Name(),
                                   " held its rank, without a policy that lets it"));
  }
  seat = Seat{who, joined.epoch, joined.first_round, false};
  // A coordinator that was started again does not know that the run was over for this one, and the
  // others, who have not heard of it either, go on with it.
  for (auto& [round, record] : run.records) {
    if (record.got_failure.has_value() && record.got_failure->rank == who.rank) {
      record.got_failure.reset();
    }
  }
}

void Judge::EpochChanged(const Who& who, uint64_t run, const wire::EpochChanged& changed) {
  CheckEpoch(who, &At(run, who.group), changed.epoch, changed.members);
}

void Judge::Gone(const Who& who, uint64_t run) {
  Seat& seat = At(run, who.group).seats[who.rank];
  if (seat.holder.has_value() && seat.holder->life == who.life) seat.gone = true;
}

void Judge::Returned(const Who& who, uint64_t run) {
  Seat& seat = At(run, who.group).seats[who.rank];
  if (seat.holder.has_value() && seat.holder->life == who.life) seat.gone = false;
}

void Judge::Submitted(const Who& who, const std::string& host, uint64_t id, uint64_t round,
                      Position position, Slice slice) {
  Run& run = At(id, who.group);
  Record& record = run.records[round];
  if (record.any && !(record.position == position)) {
    Report("agreement", absl::StrCat(who.Name(), " is at step ", position.step, ".", position.index,
                                     " in round ", round, ", others are at ", record.position.step,
                                     ".", record.position.index));
  }
  record.any = true;
  record.position = position;
  record.submissions.push_back({who, &host, std::move(slice)});
  while (run.records.size() > kRemembered) run.records.erase(run.records.begin());
}

void Judge::Received(const Who& who, uint64_t id, const wire::Result& result, const Bytes& bytes) {
  Run& run = At(id, who.group);
  const uint64_t round = result.key.round;
  const auto it = run.records.find(round);
  if (it == run.records.end()) {
    // An answer to something very old that was sent again.
    if (!run.records.empty() && round < run.records.begin()->first) return;
    Report("validity", absl::StrCat(who.Name(), " got a result of round ", round,
                                    ", to which nobody contributed"));
    return;
  }
  Record& record = it->second;
  for (Outcome& outcome : record.outcomes) {
    if (outcome.epoch != result.key.epoch) continue;
    if (*outcome.bytes == *bytes) {
      const bool known = std::count(outcome.members.begin(), outcome.members.end(), who.rank) > 0;
      // Among members with equal effect another choice may hold this one too.
      if (!known) Verify(who, round, run, record, &outcome);
      return;
    }
    Report("agreement", absl::StrCat(who.Name(), " got ", Show(result.moments), " for epoch ",
                                     outcome.epoch, " round ", round, ", others got ",
                                     Show(outcome.moments), "; settled ", result.settled));
    return;
  }
  if (!record.outcomes.empty() && GroupOf(who).on_loss != OnLoss::kShrink) {
    Report("agreement",
           absl::StrCat(who.Name(), " got a result of round ", round, " in epoch ",
                        result.key.epoch, ", others in epoch ", record.outcomes.front().epoch));
    return;
  }
  Outcome& outcome = record.outcomes.emplace_back();
  outcome.epoch = result.key.epoch;
  outcome.bytes = bytes;
  outcome.moments = result.moments;
  Verify(who, round, run, record, &outcome);
  ++tally_.rounds;
}

void Judge::Verify(const Who& who, uint64_t round, const Run& run, const Record& record,
                   Outcome* outcome) {
  const GroupPlan& group = GroupOf(who);
  const auto size = static_cast<uint32_t>(run.seats.size());
  // For each rank what it may have contributed: the likeliest first, nothing last.
  std::vector<std::vector<const Submission*>> choices(size);
  const auto epoch = run.epochs.find(outcome->epoch);
  for (uint32_t rank = 0; rank < size; ++rank) {
    const Seat& seat = run.seats[rank];
    std::vector<const Submission*>& of_rank = choices[rank];
    for (auto it = record.submissions.rbegin(); it != record.submissions.rend(); ++it) {
      if (it->who.rank != rank) continue;
      // From where a successor begins, what its predecessor says is void.
      const bool fenced =
          seat.holder.has_value() && seat.holder->life != it->who.life && round >= seat.from;
      if (!fenced) of_rank.push_back(&*it);
    }
    const bool may_be_absent =
        group.on_loss != OnLoss::kFail && rank != who.rank && (seat.gone || Excused(who.group));
    if (of_rank.empty() && !may_be_absent) {
      Report("validity", absl::StrCat(who.Name(), " got a result of round ", round,
                                      ", to which rank ", rank, " did not contribute"));
      return;
    }
    if (may_be_absent || of_rank.empty()) of_rank.push_back(nullptr);
    // A round is of those that its epoch has when it opens.
    if (epoch != run.epochs.end() &&
        std::count(epoch->second.begin(), epoch->second.end(), rank) == 0) {
      of_rank.assign(1, nullptr);
    }
  }
  // The likeliest choices first, then those that differ from them for one rank, for two, ...
  std::vector<size_t> chosen(size);
  std::string why;
  int tries = 0;
  const auto explains = [&] {
    std::vector<Part> parts;
    std::vector<uint32_t> members;
    bool finite = true;
    uint64_t count = 0;
    for (uint32_t rank = 0; rank < size; ++rank) {
      const Submission* submission = choices[rank][chosen[rank]];
      if (submission == nullptr) continue;
      members.push_back(rank);
      if (!Finite(submission->slice.moments)) {
        finite = false;
        if (group.non_finite == NonFinite::kDrop) continue;
      }
      count += submission->slice.moments.count;
      parts.push_back({submission->host, &submission->slice.moments, &submission->slice.samples});
    }
    if (tries++ > 0 && count != outcome->moments.count) return false;
    const Moments expected = FoldAgain(outcome->moments, parts);
    if (tries == 1) {
      why = absl::StrCat("expected ", Show(expected), " of ranks ", absl::StrJoin(members, ","));
    }
    if (!SameBits(expected, outcome->moments)) return false;
    if (!finite && group.non_finite == NonFinite::kFail) {
      Report("validity", absl::StrCat(who.Name(), " got a result of round ", round,
                                      " that holds values that are not finite"));
    }
    outcome->members = std::move(members);
    if (!finite) return true;
    const std::string off = CompareWithDefinition(outcome->moments, parts);
    if (!off.empty()) {
      Report("validity", absl::StrCat(who.Name(), " round ", round, ": ", off));
    }
    return true;
  };
  const std::function<bool(uint32_t, uint32_t)> search = [&](uint32_t from, uint32_t others) {
    if (others == 0) return explains();
    for (uint32_t rank = from; rank < size && tries < kMostTries; ++rank) {
      for (chosen[rank] = 1; chosen[rank] < choices[rank].size(); ++chosen[rank]) {
        if (search(rank + 1, others - 1)) return true;
      }
      chosen[rank] = 0;
    }
    return false;
  };
  if (search(0, 0) || search(0, 1)) return;
  // Where many are lost while the round is open, the sets between are too many: likelier than those
  // is that whoever a later epoch does not have is absent.  The latest may not have been told yet.
  for (auto later = run.epochs.upper_bound(outcome->epoch); later != run.epochs.end(); ++later) {
    for (uint32_t rank = 0; rank < size; ++rank) {
      if (choices[rank].back() != nullptr) continue;
      if (std::count(later->second.begin(), later->second.end(), rank) > 0) continue;
      std::swap(choices[rank].front(), choices[rank].back());
    }
    if (search(0, 0) || search(0, 1)) return;
  }
  for (uint32_t others = 2; others <= size && tries < kMostTries; ++others) {
    if (search(0, others)) return;
  }
  Report("validity", absl::StrCat(who.Name(), " got ", Show(outcome->moments), " for epoch ",
                                  outcome->epoch, " round ", round, ", ", why));
}

void Judge::Ended(const Who& who, uint64_t id, uint64_t round,
                  const absl::StatusOr<Moments>& result, bool member, uint64_t state) {
  Run& run = At(id, who.group);
  // One that was stopped for long is told what the others have forgotten.
  if (!run.records.empty() && round < run.records.begin()->first) return;
  Record& record = run.records[round];
  if (result.ok()) {
    const Outcome* outcome = nullptr;
    for (const Outcome& known : record.outcomes) {
      if (SameBits(known.moments, *result)) outcome = &known;
    }
    if (outcome == nullptr) {
      Report("agreement", absl::StrCat(who.Name(), " ended round ", round, " with ", Show(*result),
                                       ", which no result said"));
      return;
    }
    const auto [it, added] = record.states.try_emplace(outcome->epoch, who, state);
    if (!added && it->second.second != state) {
      Report("agreement", absl::StrCat(who.Name(), " has another state than ",
                                       it->second.first.Name(), " after round ", round));
    }
    record.got_result = who;
  } else {
    CheckText(who, result.status(), absl::StrCat("round ", round));
    const bool by_policy =
        GroupOf(who).non_finite == NonFinite::kFail &&
        std::any_of(record.submissions.begin(), record.submissions.end(),
                    [](const Submission& s) { return !Finite(s.slice.moments); });
    if (!by_policy && !Excused(who.group)) {
      Report("cause", absl::StrCat(who.Name(), " round ", round,
                                   " failed without a cause: ", result.status().ToString()));
    }
    if (member) {
      if (!record.got_failure.has_value()) ++tally_.failed_rounds;
      record.got_failure = who;
    }
  }
  if (!record.got_result.has_value() || !record.got_failure.has_value()) return;
  // Unless the result is of an epoch that the other is no member of: a coordinator that is started
  // again does not know that the run was over for it.
  const bool fellows =
      std::any_of(record.outcomes.begin(), record.outcomes.end(), [&](const Outcome& outcome) {
        const auto epoch = run.epochs.find(outcome.epoch);
        return epoch == run.epochs.end() ||
               std::count(epoch->second.begin(), epoch->second.end(), record.got_failure->rank) > 0;
      });
  if (!fellows) return;
  Report("agreement", absl::StrCat("round ", round, " is a result for ", record.got_result->Name(),
                                   " and a failure for ", record.got_failure->Name()));
}

void Judge::Failed(const Who& who, const absl::Status& status, const std::string& what) {
  CheckText(who, status, what);
  ++tally_.failed_memberships;
  if (!Excused(who.group)) {
    Report("cause",
           absl::StrCat(who.Name(), " ", what, " failed without a cause: ", status.ToString()));
  }
}

void Judge::CheckText(const Who& who, const absl::Status& status, const std::string& what) {
  const std::string text(status.message());
  const std::string& group = GroupOf(who).name;
  bool named = absl::StrContains(text, absl::StrCat("group \"", group, "\"")) ||
               absl::StrContains(text, absl::StrCat("group ", group));
  std::string lacking = named ? "" : "its group";
  if (const std::optional<Failure> failure = FailureOf(status)) {
    for (const uint32_t rank : failure->ranks) {
      // "rank 3", "ranks 0-3,5": the number at least.
      if (failure->ranks.size() == 1 && !absl::StrContains(text, absl::StrCat("rank ", rank))) {
        lacking = absl::StrCat("rank ", rank);
      }
    }
  }
  if (lacking.empty()) return;
  Report("named failure",
         absl::StrCat(who.Name(), " ", what, ": the text does not name ", lacking, ": ", text));
}

void Judge::CheckBound(const Who& who, absl::Time bound, const std::string& what) {
  if (timeline_->now() <= bound) return;
  Report("bounded wait",
         absl::StrCat(who.Name(), " ", what, " has taken ",
                      absl::FormatDuration(timeline_->now() - bound), " longer than it may"));
}

}  // namespace syncnorm::sim
