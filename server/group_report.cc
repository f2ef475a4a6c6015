#include "server/group_report.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace syncnorm::server {
namespace {

std::string Name(Member::State state) {
  switch (state) {
    case Member::State::kAbsent:
      return "absent";
    case Member::State::kHere:
      return "here";
    case Member::State::kAway:
      return "away";
    case Member::State::kLeft:
      return "left";
    case Member::State::kLost:
      break;
  }
  return "lost";
}

std::string Name(Group::State state) {
  switch (state) {
    case Group::State::kForming:
      return "forming";
    case Group::State::kRunning:
      return "running";
    case Group::State::kLeaving:
      return "leaving";
    case Group::State::kClosed:
      break;
  }
  return "closed";
}

std::vector<uint32_t> Cut(const std::vector<uint32_t>& ranks) {
  const auto listed = absl::MakeConstSpan(ranks).subspan(0, Report::kListedRanks);
  return {listed.begin(), listed.end()};
}

Report::Layer Of(const Lateness::Layer& layer) {
  Report::Layer of{layer.name, layer.direction, layer.rounds, layer.wait, layer.max, {}, {}};
  for (uint32_t rank = 0; rank < layer.last.size(); ++rank) {
    const uint64_t rounds = layer.last[rank];
    if (rounds == 0) continue;
    if (of.last.size() == Report::kListedLasts) {
      if (rounds <= of.last.back().rounds) continue;
      of.last.pop_back();
    }
    // Behind those that were last as often: the lower rank first.
    const auto at = std::find_if(of.last.begin(), of.last.end(),
                                 [&](const Report::Last& other) { return other.rounds < rounds; });
    of.last.insert(at, {rank, rounds});
  }
  return of;
}

Report::OpenRound Of(const Round& round, absl::Time now) {
  Report::OpenRound of;
  of.key = round.key();
  of.open = now - round.opened();
  const std::vector<uint32_t> contributed = round.contributed();
  of.contributed = Cut(contributed);
  of.contributed_count = static_cast<uint32_t>(contributed.size());
  const std::vector<uint32_t> missing = round.missing();
  of.missing = Cut(missing);
  of.missing_count = static_cast<uint32_t>(missing.size());
  return of;
}

}  // namespace

Report::Group ReportOf(const Group& group, absl::Time now, size_t rounds, bool timeline) {
  const Membership& members = group.members();
  Report::Group report;
  report.name = members.group();
  report.epoch = members.epoch();
  report.state = Name(group.state());
  report.members.reserve(members.size());
  for (uint32_t rank = 0; rank < members.size(); ++rank) {
    const Member& member = members.member(rank);
    report.members.push_back(
        {rank, Name(member.state), member.host, member.pid, now - member.heard, {}, {}});
  }
  if (group.rounds() == nullptr) return report;

  const Lateness& lateness = group.rounds()->lateness();
  for (Report::Member& member : report.members) member.lateness = lateness.rank(member.rank);
  report.layers.reserve(lateness.layers().size());
  for (const Lateness::Layer& layer : lateness.layers()) {
    report.layers.push_back(Of(layer));
    if (layer.direction != Direction::kForward) continue;
    if (const Drift::Entry* drift = group.rounds()->drift().Find(layer.name)) {
      report.layers.back().drift = *drift;
    }
  }
  report.other_layers = Of(lateness.others());
  for (const Round* round : group.rounds()->OpenRounds(std::max(rounds, kOpenRounds))) {
    report.open.push_back(Of(*round, now));
  }
  const FlightRecorder& recorder = group.rounds()->recorder();
  const size_t ended = std::min(rounds, recorder.size());
  report.rounds.reserve(ended);
  for (size_t age = 0; age < ended; ++age) report.rounds.push_back(recorder.At(age));

  report.counters = group.rounds()->counters();
  report.recent = group.timeline().Recent(now, report.counters.durations, lateness);
  const std::vector<Timeline::Rank> ranks = std::move(report.recent.ranks);
  for (uint32_t rank = 0; rank < std::min(ranks.size(), report.members.size()); ++rank) {
    report.members[rank].recent = ranks[rank];
  }
  if (timeline) {
    report.timeline.assign(group.timeline().bins().begin(), group.timeline().bins().end());
  }
  return report;
}

}  // namespace syncnorm::server
