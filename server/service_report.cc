#include "server/service_report.h"

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "proto/admin_json.h"
#include "syncnorm/v1/admin.pb.h"

namespace syncnorm::server {
namespace {

double Number(uint64_t count) { return static_cast<double>(count); }
double Seconds(absl::Duration duration) { return absl::ToDoubleSeconds(duration); }

template <typename List>
void To(const std::vector<uint32_t>& from, List* to) {
  to->Assign(from.begin(), from.end());
}

void To(const RoundKey& from, v1::RoundReportKey* to) {
  to->set_round(Number(from.round));
  to->set_layer(from.layer);
  to->set_direction(std::string(Name(from.direction)));
  to->set_step(Number(from.step));
}

void To(const Report::Member& from, v1::MemberReport* to) {
  to->set_rank(from.rank);
  to->set_state(from.state);
  to->set_host(from.host);
  to->set_pid(from.pid);
  if (from.heard != absl::InfiniteDuration()) to->set_heard_s(Seconds(from.heard));
  const Lateness::Rank& lateness = from.lateness;
  to->set_rounds(Number(lateness.rounds));
  to->set_last(Number(lateness.last));
  to->set_missed(Number(lateness.missed));
  to->set_late_mean_s(lateness.rounds == 0 ? 0 : Seconds(lateness.sum) / Number(lateness.rounds));
  to->set_late_max_s(Seconds(lateness.max));
  for (size_t i = 0; i < Lateness::kBuckets; ++i) {
    v1::LatenessBucket* bucket = to->add_late();
    if (i < Lateness::kBounds.size()) bucket->set_within_s(Seconds(Lateness::kBounds[i]));
    bucket->set_rounds(Number(lateness.histogram[i]));
  }
}

void To(const Report::Layer& from, v1::LayerReport* to) {
  to->set_name(from.name);
  if (!from.name.empty()) to->set_direction(std::string(Name(from.direction)));
  to->set_rounds(Number(from.rounds));
  to->set_wait_s(Seconds(from.wait));
  to->set_wait_max_s(Seconds(from.max));
  for (const Report::Last& last : from.last) {
    v1::LastReport* report = to->add_last();
    report->set_rank(last.rank);
    report->set_rounds(Number(last.rounds));
  }
}

void To(const Report::OpenRound& from, v1::OpenRoundReport* to) {
  To(from.key, to->mutable_key());
  to->set_open_s(Seconds(from.open));
  To(from.contributed, to->mutable_contributed());
  to->set_contributed_count(from.contributed_count);
  To(from.missing, to->mutable_missing());
  to->set_missing_count(from.missing_count);
}

void To(const FlightRecorder::Entry& from, absl::Time now, v1::RoundReport* to) {
  To(from.key, to->mutable_key());
  to->set_ended_s(Seconds(now - from.ended));
  to->set_open_s(Seconds(from.ended - from.opened));
  to->set_arrivals(from.arrivals);
  if (from.arrivals > 0) {
    to->set_first_rank(from.first_rank);
    to->set_last_rank(from.last_rank);
  }
  to->set_wait_s(Seconds(from.wait));
  to->set_outcome(from.code == absl::StatusCode::kOk ? "complete"
                                                     : absl::StatusCodeToString(from.code));
  to->set_text(from.text);
  To(from.missing, to->mutable_missing());
  to->set_missing_count(from.missing_count);
  to->set_bytes(Number(from.bytes));
}

v1::ReportReply Message(const Report& from) {
  v1::ReportReply to;
  to.set_why(from.why);
  to.set_coordinator_id(from.coordinator_id);
  to.set_groups_left_out(from.groups_left_out);
  for (const Report::Group& group : from.groups) {
    v1::GroupReport* report = to.add_groups();
    report->set_name(group.name);
    report->set_epoch(Number(group.epoch));
    report->set_state(group.state);
    for (const Report::Member& member : group.members) To(member, report->add_members());
    for (const Report::Layer& layer : group.layers) To(layer, report->add_layers());
    if (group.other_layers.rounds > 0) To(group.other_layers, report->mutable_other_layers());
    for (const Report::OpenRound& round : group.open) To(round, report->add_open());
    for (const FlightRecorder::Entry& round : group.rounds) {
      To(round, from.now, report->add_rounds());
    }
  }
  return to;
}

}  // namespace

std::string ToBytes(const Report& report) { return Message(report).SerializeAsString(); }
std::string ToJson(const Report& report) { return AdminJson(Message(report)); }

uint64_t ApproximateBytes(const Report::Group& group) {
  // A field takes its tag and a double or a varint, 3 to 9 bytes: 24 fields of a member with its
  // buckets, 10 of a layer with its lasts, 15 of a round.
  uint64_t bytes = group.name.size() + 64;
  for (const Report::Member& member : group.members) bytes += 250 + member.host.size();
  for (const Report::Layer& layer : group.layers) bytes += 90 + layer.name.size();
  for (const Report::OpenRound& round : group.open) {
    bytes += 60 + round.key.layer.size() + 2 * (round.contributed.size() + round.missing.size());
  }
  for (const FlightRecorder::Entry& round : group.rounds) {
    bytes += 110 + round.key.layer.size() + round.text.size() + 2 * round.missing.size();
  }
  return bytes;
}

}  // namespace syncnorm::server
