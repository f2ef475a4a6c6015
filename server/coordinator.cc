#include "server/coordinator.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "server/group_report.h"
#include "server/names.h"

namespace syncnorm::server {
namespace {

// Epochs and rounds count up from 1: at a million a second this takes 100,000 years, and what is
// added to it afterwards does not overflow.
constexpr uint64_t kMaxIssued = uint64_t{1} << 62;

bool IsGroupName(const std::string& name) {
  if (name.empty() || name.size() > wire::kMaxGroupNameBytes) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '/' || c == ':' || c == '-';
  });
}

// A failure of a worker that is in no group.
Failure Alone(absl::StatusCode code, const wire::Join& join, std::string text) {
  Failure failure;
  failure.code = code;
  failure.text = std::move(text);
  failure.group = join.group;
  failure.ranks = {join.rank};
  failure.hosts = {join.host};
  return failure;
}

}  // namespace

Coordinator::Coordinator(Settings settings) : settings_(std::move(settings)) {
  shared_.limits = settings_.limits;
  shared_.timeouts = settings_.timeouts;
  shared_.coordinator_id = settings_.coordinator_id;
}

void Coordinator::OnOpen(absl::Time now, StreamId stream, Output* output) {
  const auto [it, added] =
      streams_.try_emplace(stream, Stream{nullptr, 0, now + settings_.timeouts.hello});
  SYNCNORM_CHECK(added);
  Failure failure;
  if (draining_) {
    failure.code = absl::StatusCode::kUnavailable;
    failure.text = "the coordinator is going down";
    Refuse(stream, failure, output);
  } else if (streams_.size() > settings_.limits.streams) {
    failure.code = absl::StatusCode::kResourceExhausted;
    failure.text = absl::StrCat("all ", settings_.limits.streams, " streams are taken");
    Refuse(stream, failure, output);
  } else {
    Schedule(it->second.hello_deadline);
  }
}

absl::Status Coordinator::Check(const wire::Join& join) const {
  if (join.protocol_major != wire::kProtocolMajor) {
    return absl::UnimplementedError(absl::StrCat("protocol ", join.protocol_major, ".",
                                                 join.protocol_minor,
                                                 " is not spoken here; the coordinator speaks ",
                                                 wire::kProtocolMajor, ".", wire::kProtocolMinor));
  }
  if (!IsGroupName(join.group)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a group's name has 1 to ", wire::kMaxGroupNameBytes, " bytes of [A-Za-z0-9._/:-]"));
  }
  if (join.world_size == 0 || join.world_size > wire::kMaxWorldSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("world_size ", join.world_size, " is not within 1 to ", wire::kMaxWorldSize));
  }
  if (join.world_size > settings_.limits.members) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "world_size ", join.world_size, " exceeds this coordinator's ", settings_.limits.members));
  }
  if (join.resume.has_value() &&
      (join.resume->epoch == 0 || join.resume->epoch > kMaxIssued ||
       join.resume->answered > kMaxIssued || join.resume->first_round > kMaxIssued)) {
    return absl::InvalidArgumentError(
        absl::StrCat("resumes epoch ", join.resume->epoch, ", from round ",
                     join.resume->first_round, ", with the answers up to round ",
                     join.resume->answered, ", which nobody can have issued"));
  }
  const Group* group = Find(join.group);
  if (group == nullptr && join.rank >= join.world_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", join.rank, " is outside of world_size ", join.world_size));
  }
  return absl::OkStatus();
}

bool Coordinator::HasRoom(StreamId stream, const wire::Join& join, Output* output) {
  if (groups_.size() < settings_.limits.groups) return true;
  Refuse(stream,
         Alone(absl::StatusCode::kResourceExhausted, join,
               absl::StrCat("group \"", join.group, "\": ", Worker(join.rank, join.host, join.pid),
                            ": all ", settings_.limits.groups, " groups are taken")),
         output);
  return false;
}

Group* Coordinator::Find(const std::string& name) const {
  const auto it = latest_.find(name);
  return it != latest_.end() && it->second->Current() ? it->second : nullptr;
}

Group* Coordinator::Make(absl::Time now, const wire::Join& join) {
  const uint64_t id = ++made_;
  auto group = std::make_unique<Group>(id, join, now, &shared_);
  latest_[join.group] = group.get();
  return groups_.emplace(id, std::move(group)).first->second.get();
}

Group* Coordinator::FindRun(const std::string& name, uint64_t run) const {
  for (const auto& [id, group] : groups_) {
    if (group->Resumable(run) && group->members().group() == name) return group.get();
  }
  return nullptr;
}

std::optional<Failure> Coordinator::Over(const wire::Join& join) const {
  const uint64_t run = join.resume->run_id;
  const Failure* why = nullptr;
  if (const auto it = ended_.find(run); it != ended_.end()) why = &it->second;
  for (const auto& [id, group] : groups_) {
    if (group->run_id() == run && group->closed().has_value()) why = &*group->closed();
  }
  const Group* current = Find(join.group);
  const bool known = why != nullptr || join.resume->coordinator_id == settings_.coordinator_id;
  // A worker that knows of no run waits for the others, who resume theirs: under kShrink, and where
  // it only has not heard that it has joined.
  const bool gives_way =
      current != nullptr && current->state() == Group::State::kForming &&
      !current->members().resuming() &&
      (join.on_loss == OnLoss::kShrink || current->members().AreOf(join.resume->tickets));
  if (!known && (current == nullptr || gives_way)) return std::nullopt;
  if (why != nullptr && why->group != join.group) why = nullptr;  // not for this one to read
  // What ended the run for the others is what ends it for a member that was away; the member at
  // fault is fenced.
  const bool at_fault =
      why == nullptr || why->code == absl::StatusCode::kFailedPrecondition ||
      why->code == absl::StatusCode::kUnavailable ||  // nobody was left
      std::find(why->ranks.begin(), why->ranks.end(), join.rank) != why->ranks.end();
  if (!at_fault) return *why;
  std::string text =
      absl::StrCat("group \"", join.group, "\": fenced: ", Worker(join.rank, join.host, join.pid),
                   " resumes epoch ", join.resume->epoch, ", which is over");
  if (why != nullptr) absl::StrAppend(&text, " (", why->text, ")");
  if (current != nullptr && current->members().epoch() != 0) {
    absl::StrAppend(&text, ", current is ", current->members().epoch());
  }
  return Alone(absl::StatusCode::kFailedPrecondition, join, text + "; join again");
}

void Coordinator::OnJoin(absl::Time now, StreamId stream, const wire::Join& join, Output* output) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  if (it->second.group != nullptr) {
    Expel(now, stream, "sent a second Join", output);
    return;
  }
  if (const absl::Status status = Check(join); !status.ok()) {
    Refuse(stream,
           Alone(status.code(), join,
                 absl::StrCat("group \"", absl::CEscape(join.group), "\": ",
                              Worker(join.rank, join.host, join.pid), ": ", status.message())),
           output);
    return;
  }
  const size_t first = output->replies.size();
  Group* group = Find(join.group);
  if (join.resume.has_value()) {
    Group* const run = FindRun(join.group, join.resume->run_id);
    if (run == nullptr) {
      if (const std::optional<Failure> over = Over(join)) {
        Refuse(stream, *over, output);
        return;
      }
      if (group != nullptr) {
        group->GiveWay("members have come that resume a run; join again", output);
        Settle(now, group, first, output);
      }
    }
    group = run;
    // Whatever becomes of it: a new group's epoch is a later one.
    shared_.epochs = std::max(shared_.epochs, join.resume->epoch);
  }
  if (group == nullptr) {
    if (!HasRoom(stream, join, output)) return;
    group = Make(now, join);
  }
  Group::Welcome welcome = group->Join(now, stream, join, output);
  if (welcome == Group::Welcome::kMakeNew) {
    // The one that is over counts for as long as it has streams.
    Settle(now, group, first, output);
    if (!HasRoom(stream, join, output)) return;
    group = Make(now, join);
    welcome = group->Join(now, stream, join, output);
  }
  // What the group answered may have closed the stream.
  if (welcome == Group::Welcome::kIn) {
    it->second.group = group;
    it->second.rank = join.rank;
  }
  Settle(now, group, first, output);
}

void Coordinator::OfMember(absl::Time now, StreamId stream, absl::string_view what,
                           absl::FunctionRef<absl::Status(Group*, uint32_t)> take, Output* output) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  Group* group = it->second.group;
  if (group == nullptr || !group->IsJoined(stream, it->second.rank)) {
    Expel(now, stream, absl::StrCat("sent a ", what, " before it was Joined"), output);
    return;
  }
  const size_t first = output->replies.size();
  if (const absl::Status status = take(group, it->second.rank); !status.ok()) {
    Expel(now, stream, absl::StrCat("sent ", status.message()), output);
    return;
  }
  Settle(now, group, first, output);
}

void Coordinator::OnContribution(absl::Time now, StreamId stream, wire::Contribution* contribution,
                                 Output* output) {
  const auto take = [&](Group* group, uint32_t rank) {
    return group->Contribute(now, rank, contribution, output);
  };
  OfMember(now, stream, "Contribution", take, output);
}

void Coordinator::OnFinish(absl::Time now, StreamId stream, Output* output) {
  const auto take = [&](Group* group, uint32_t rank) { return group->Finish(now, rank, output); };
  OfMember(now, stream, "Finish", take, output);
}

void Coordinator::OnHandover(absl::Time now, StreamId stream, const wire::Handover& handover,
                             Output* output) {
  const auto take = [&](Group* group, uint32_t rank) {
    return group->HandOver(now, rank, handover, output);
  };
  OfMember(now, stream, "Handover", take, output);
}

void Coordinator::OnRestored(absl::Time now, StreamId stream, const wire::Restored& restored,
                             Output* output) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  Group* group = it->second.group;
  const size_t first = output->replies.size();
  const absl::Status status =
      group != nullptr && group->members().member(it->second.rank).stream == stream
          ? group->Restore(it->second.rank, restored.answer, output)
          : absl::InvalidArgumentError("it is no member");
  if (!status.ok()) {
    Expel(now, stream, absl::StrCat("sent a Restored: ", status.message()), output);
    return;
  }
  Settle(now, group, first, output);
}

void Coordinator::OnLeave(absl::Time now, StreamId stream, const wire::Leave& leave,
                          Output* output) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  Group* group = it->second.group;
  if (group == nullptr) {
    output->replies.push_back({stream, nullptr, /*answer=*/false, /*close=*/true});
    streams_.erase(it);
    return;
  }
  const size_t first = output->replies.size();
  group->Leave(now, stream, it->second.rank, leave.reason, output);
  Settle(now, group, first, output);
}

void Coordinator::OnMalformed(absl::Time now, StreamId stream, absl::string_view what,
                              Output* output) {
  if (!streams_.contains(stream)) return;
  Expel(now, stream, absl::StrCat("sent a malformed message: ", what), output);
}

void Coordinator::OnDisconnect(absl::Time now, StreamId stream, Output* output) {
  End(now, stream, "disconnected", /*may_return=*/true, output);
}

void Coordinator::OnCutOff(absl::Time now, StreamId stream, absl::string_view how, Output* output) {
  End(now, stream, how, /*may_return=*/false, output);
}

void Coordinator::End(absl::Time now, StreamId stream, absl::string_view how, bool may_return,
                      Output* output) {
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  Group* group = it->second.group;
  const uint32_t rank = it->second.rank;
  streams_.erase(it);
  if (group == nullptr) return;
  const size_t first = output->replies.size();
  group->Lose(now, stream, rank, how, may_return, output);
  Settle(now, group, first, output);
}

void Coordinator::OnTick(absl::Time now, Output* output) {
  next_deadline_ = absl::InfiniteFuture();
  std::vector<StreamId> silent;
  for (const auto& [id, stream] : streams_) {
    if (stream.group != nullptr) continue;
    if (stream.hello_deadline <= now) {
      silent.push_back(id);
    } else {
      Schedule(stream.hello_deadline);
    }
  }
  std::sort(silent.begin(), silent.end());
  for (const StreamId stream : silent) {
    Failure failure;
    // Its Join may be late by the network's fault: it tries again.
    failure.code = absl::StatusCode::kUnavailable;
    failure.text = absl::StrCat("no Join came within ", InSeconds(settings_.timeouts.hello));
    Refuse(stream, failure, output);
  }
  const bool out_of_grace = draining_ && now >= drain_deadline_;
  for (auto it = groups_.begin(); it != groups_.end();) {
    Group* group = (it++)->second.get();  // Settle may forget it
    const size_t first = output->replies.size();
    group->Tick(now, output);
    if (out_of_grace) group->Shut(now, output);
    Settle(now, group, first, output);
  }
  if (draining_ && !out_of_grace) Schedule(drain_deadline_);
}

void Coordinator::Drain(absl::Time now, absl::Duration grace, Output* output) {
  if (draining_) return;
  draining_ = true;
  drain_deadline_ = now + grace;
  const auto draining = std::make_shared<const std::string>(
      shared_.codec.Encode(wire::Draining{"the coordinator is going down"}));
  std::vector<StreamId> strangers;
  for (const auto& [id, stream] : streams_) {
    if (stream.group == nullptr) strangers.push_back(id);
  }
  std::sort(strangers.begin(), strangers.end());
  for (const StreamId stream : strangers) {
    Failure failure;
    failure.code = absl::StatusCode::kUnavailable;
    failure.text = "the coordinator is going down";
    Refuse(stream, failure, output);
  }
  for (auto it = groups_.begin(); it != groups_.end();) {
    Group* group = (it++)->second.get();
    const size_t first = output->replies.size();
    group->Drain(now, output);
    for (const StreamId stream : group->streams()) output->replies.push_back({stream, draining});
    Settle(now, group, first, output);
  }
  Schedule(drain_deadline_);
}

void Coordinator::TurnAway(StreamId stream, const Failure& failure, Output* output) {
  streams_.erase(stream);
  output->replies.push_back({stream,
                             std::make_shared<const std::string>(shared_.codec.Encode(failure)),
                             /*answer=*/true, /*close=*/true});
}

void Coordinator::Refuse(StreamId stream, const Failure& failure, Output* output) {
  TurnAway(stream, failure, output);
  output->notes.push_back(
      {Note::Severity::kWarning, Note::Source::kStranger, failure.text, SubjectOf(failure)});
}

void Coordinator::Expel(absl::Time now, StreamId stream, absl::string_view what, Output* output) {
  const auto it = streams_.find(stream);
  Group* group = it->second.group;
  const uint32_t rank = it->second.rank;
  if (group == nullptr) {
    Failure failure;
    failure.code = absl::StatusCode::kInvalidArgument;
    failure.text = absl::StrCat("a worker that has not joined ", what);
    Refuse(stream, failure, output);
    return;
  }
  const size_t first = output->replies.size();
  const Membership& members = group->members();
  Refuse(
      stream,
      members.Fail(absl::StatusCode::kInvalidArgument, RoundKey{.epoch = members.epoch()}, {rank},
                   absl::StrCat(members.Name(), ": ", group->Who(stream, rank), " ", what)),
      output);
  group->Lose(now, stream, rank, what, /*may_return=*/false, output);
  Settle(now, group, first, output);
}

void Coordinator::Settle(absl::Time now, Group* group, size_t first, Output* output) {
  if (draining_ && group->AtRest()) group->Shut(now, output);
  const std::string incident = group->TakeIncident();
  if (!incident.empty()) {
    failures_.push_front(
        {now, group->members().group(), incident.substr(0, FlightRecorder::kTextBytes)});
    if (failures_.size() > kKeptFailures) failures_.pop_back();
  }
  if (!incident.empty() && settings_.report_incidents && !draining_ &&
      incident_limit_.Allow(now, group->members().group())) {
    Report report;
    report.why = incident;
    report.coordinator_id = settings_.coordinator_id;
    report.now = now;
    report.groups.push_back(
        ReportOf(*group, now, settings_.limits.flight_rounds, /*timeline=*/false));
    output->incidents.push_back(std::move(report));
  }
  for (size_t i = first; i < output->replies.size(); ++i) {
    if (output->replies[i].close) streams_.erase(output->replies[i].stream);
  }
  if (!group->empty()) {
    Schedule(group->NextDeadline());
    return;
  }
  if (group->rounds() != nullptr) past_.Merge(group->rounds()->counters());
  Bury(*group);
  const auto latest = latest_.find(group->members().group());
  if (latest != latest_.end() && latest->second == group) latest_.erase(latest);
  groups_.erase(group->id());
}

void Coordinator::Bury(const Group& group) {
  // One that still formed may be resumed again.
  if (!group.members().established() && !group.closed().has_value()) return;
  Failure why;
  if (group.closed().has_value()) {
    why = *group.closed();
  } else {
    why.code = absl::StatusCode::kFailedPrecondition;
    why.text = absl::StrCat(group.members().Name(), " has ended");
    why.group = group.members().group();
  }
  if (!ended_.emplace(group.run_id(), std::move(why)).second) return;
  ended_order_.push_back(group.run_id());
  if (ended_order_.size() <= settings_.limits.groups) return;
  ended_.erase(ended_order_.front());
  ended_order_.pop_front();
}

Snapshot Coordinator::snapshot() const {
  Snapshot snapshot;
  snapshot.streams = streams_.size();
  snapshot.groups = groups_.size();
  snapshot.epochs = shared_.epochs;
  snapshot.draining = draining_;
  snapshot.rounds = past_;
  for (const auto& [id, group] : groups_) {
    snapshot.members += group->members().here();
    snapshot.away += group->members().away();
    if (const Rounds* rounds = group->rounds()) {
      snapshot.open_rounds += rounds->open();
      snapshot.open_bytes += rounds->open_bytes();
      snapshot.kept_rounds += rounds->kept();
      snapshot.kept_bytes += rounds->kept_bytes();
      snapshot.rounds.Merge(rounds->counters());
    }
  }
  return snapshot;
}

std::vector<uint64_t> Coordinator::GroupsNamed(const std::string& name) const {
  std::vector<uint64_t> ids;
  for (const auto& [id, group] : groups_) {
    if (name.empty() || group->members().group() == name) ids.push_back(id);
  }
  return ids;
}

std::optional<Report::Group> Coordinator::ReportOn(absl::Time now, uint64_t group, size_t rounds,
                                                   bool timeline) const {
  const auto it = groups_.find(group);
  if (it == groups_.end()) return std::nullopt;
  return ReportOf(*it->second, now, rounds, timeline);
}

}  // namespace syncnorm::server
