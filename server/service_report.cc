#include "server/service_report.h"

#include <algorithm>
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

double Mean(double sum, uint64_t count) { return count == 0 ? 0 : sum / Number(count); }

template <const auto& kBoundsNs, typename Buckets>
void To(const Histogram<kBoundsNs>& from, Buckets* to) {
  for (size_t i = 0; i < from.kBuckets; ++i) {
    v1::LatenessBucket* bucket = to->Add();
    if (i < from.kBounds) bucket->set_within_s(Seconds(from.Bound(i)));
    bucket->set_rounds(Number(from.buckets()[i]));
  }
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
  const LatenessHistogram& late = from.lateness.late;
  to->set_rounds(Number(late.count()));
  to->set_last(Number(from.lateness.last));
  to->set_missed(Number(from.lateness.missed));
  to->set_late_s(Seconds(late.sum()));
  to->set_late_mean_s(Mean(Seconds(late.sum()), late.count()));
  to->set_late_max_s(Seconds(from.lateness.max));
  To(late, to->mutable_late());
  to->set_recent_rounds(from.recent.rounds);
  to->set_recent_last(from.recent.last);
  to->set_recent_late_mean_s(Mean(from.recent.late_s, from.recent.rounds));
}

void To(const Drift::Entry& from, absl::Time now, v1::DriftReport* to) {
  if (from.shift) to->set_shift(*from.shift);
  to->set_spread(from.spread);
  to->set_rank(from.rank);
  to->set_measured_s(Seconds(now - from.measured));
}

void To(const Report::Layer& from, absl::Time now, v1::LayerReport* to) {
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
  if (from.drift) To(*from.drift, now, to->mutable_drift());
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

void To(const RoundCounters& from, v1::CountersReport* to) {
  to->set_contributions(Number(from.contributions));
  to->set_repeats(Number(from.repeats));
  to->set_completed(Number(from.completed));
  to->set_failed(Number(from.failed));
  for (size_t code = 0; code < RoundCounters::kCodes; ++code) {
    if (from.failed_by[code] == 0) continue;
    v1::FailedReport* failed = to->add_failed_by();
    failed->set_code(absl::StatusCodeToString(static_cast<absl::StatusCode>(code)));
    failed->set_rounds(Number(from.failed_by[code]));
  }
  to->set_not_finite(Number(from.not_finite));
  to->set_stragglers(Number(from.stragglers));
}

// RecentReport and TimelineReport.
template <typename Message>
void QuantilesTo(const RoundHistogram& from, Message* to) {
  if (const auto p50 = from.Quantile(0.5)) to->set_p50_s(Seconds(*p50));
  if (const auto p99 = from.Quantile(0.99)) to->set_p99_s(Seconds(*p99));
}

void To(const Timeline::Bin& from, v1::RecentReport* to) {
  const double seconds = Seconds(from.length);
  to->set_seconds(seconds);
  to->set_rounds_per_s(seconds > 0 ? Number(from.durations.count()) / seconds : 0);
  QuantilesTo(from.durations, to);
}

void To(const Timeline::Bin& from, absl::Time now, v1::TimelineReport* to) {
  to->set_ended_s(Seconds(now - from.ended));
  to->set_seconds(Seconds(from.length));
  to->set_rounds(Number(from.durations.count()));
  QuantilesTo(from.durations, to);
  for (const Timeline::Rank& rank : from.ranks) {
    to->add_late_mean_s(rank.rounds == 0 ? -1 : rank.late_s / static_cast<float>(rank.rounds));
  }
}

void To(const Report::Group& from, absl::Time now, v1::GroupReport* to) {
  to->set_name(from.name);
  to->set_epoch(Number(from.epoch));
  to->set_state(from.state);
  for (const Report::Member& member : from.members) To(member, to->add_members());
  for (const Report::Layer& layer : from.layers) To(layer, now, to->add_layers());
  if (from.other_layers.rounds > 0) To(from.other_layers, now, to->mutable_other_layers());
  for (const Report::OpenRound& round : from.open) To(round, to->add_open());
  for (const FlightRecorder::Entry& round : from.rounds) To(round, now, to->add_rounds());
  To(from.counters, to->mutable_counters());
  v1::HistogramReport* durations = to->mutable_durations();
  To(from.counters.durations, durations->mutable_buckets());
  durations->set_rounds(Number(from.counters.durations.count()));
  durations->set_sum_s(Seconds(from.counters.durations.sum()));
  To(from.recent, to->mutable_recent());
  for (const Timeline::Bin& bin : from.timeline) To(bin, now, to->add_timeline());
  to->set_timeline_ranks(std::min(static_cast<uint32_t>(from.members.size()), Timeline::kRanks));
}

void To(const Snapshot& from, v1::StatusReply* to) {
  to->set_streams(static_cast<uint32_t>(from.streams));
  to->set_groups(static_cast<uint32_t>(from.groups));
  to->set_members(static_cast<uint32_t>(from.members));
  to->set_open_rounds(Number(from.open_rounds));
  to->set_open_bytes(Number(from.open_bytes));
  to->set_kept_rounds(Number(from.kept_rounds));
  to->set_kept_bytes(Number(from.kept_bytes));
  to->set_epochs(Number(from.epochs));
  to->set_contributions(Number(from.rounds.contributions));
  to->set_repeats(Number(from.rounds.repeats));
  to->set_rounds_completed(Number(from.rounds.completed));
  to->set_rounds_failed(Number(from.rounds.failed));
  to->set_stragglers(Number(from.rounds.stragglers));
}

void To(const SecurityState& from, absl::Duration certificate_left, v1::SecurityReport* to) {
  to->set_insecure(from.insecure);
  to->set_tls(from.tls);
  to->set_tokens(from.tokens);
  if (from.tls) to->set_certificate_left_s(Seconds(certificate_left));
  to->set_reloads(Number(from.reloads));
  to->set_reload_failures(Number(from.reload_failures));
  for (const auto& [reason, calls] : from.refusals.ByReason()) {
    v1::RefusedReport* refused = to->add_refused();
    refused->set_reason(reason);
    refused->set_calls(Number(calls));
  }
}

v1::ReportReply Message(const Report& from) {
  v1::ReportReply to;
  to.set_why(from.why);
  to.set_coordinator_id(from.coordinator_id);
  to.set_groups_left_out(from.groups_left_out);
  for (const Report::Group& group : from.groups) To(group, from.now, to.add_groups());
  return to;
}

v1::StatusReply Message(const Status& from) {
  v1::StatusReply to;
  To(from.snapshot, &to);
  to.set_coordinator_id(from.coordinator_id);
  to.set_dumps_written(Number(from.dumps_written));
  to.set_dumps_failed(Number(from.dumps_failed));
  return to;
}

v1::VitalsReply Message(const Vitals& from) {
  v1::VitalsReply to;
  *to.mutable_status() = Message(from.status);
  for (const Report::Group& group : from.report.groups) {
    To(group, from.report.now, to.add_groups());
  }
  to.set_groups_left_out(from.report.groups_left_out);
  for (const Report::Failure& failure : from.failures) {
    v1::FailureReport* report = to.add_failures();
    report->set_ended_s(Seconds(from.report.now - failure.ended));
    report->set_group(failure.group);
    report->set_text(failure.text);
  }
  To(from.security, from.certificate_left, to.mutable_security());
  to.set_version(from.version);
  to.set_up_s(Seconds(from.up));
  to.set_draining(from.status.snapshot.draining);
  return to;
}

}  // namespace

std::string ToBytes(const Report& report) { return Message(report).SerializeAsString(); }
std::string ToBytes(const Status& status) { return Message(status).SerializeAsString(); }
std::string ToBytes(const Vitals& vitals) { return Message(vitals).SerializeAsString(); }
std::string ToJson(const Report& report) { return AdminJson(Message(report)); }
std::string ToJson(const Vitals& vitals) { return AdminJson(Message(vitals)); }

uint64_t ApproximateBytes(const Report::Group& group) {
  // A field takes its tag and a double or a varint, 3 to 9 bytes: 28 fields of a member with its
  // buckets, 14 of a layer with its lasts and drift, 15 of a round.
  // 18 buckets of 20; a rank of a bin is a float.
  uint64_t bytes = group.name.size() + 64 + 18 * 20 + 200;
  for (const Timeline::Bin& bin : group.timeline) bytes += 60 + 4 * bin.ranks.size();
  for (const Report::Member& member : group.members) bytes += 290 + member.host.size();
  for (const Report::Layer& layer : group.layers) bytes += 130 + layer.name.size();
  for (const Report::OpenRound& round : group.open) {
    bytes += 60 + round.key.layer.size() + 2 * (round.contributed.size() + round.missing.size());
  }
  for (const FlightRecorder::Entry& round : group.rounds) {
    bytes += 110 + round.key.layer.size() + round.text.size() + 2 * round.missing.size();
  }
  return bytes;
}

}  // namespace syncnorm::server
