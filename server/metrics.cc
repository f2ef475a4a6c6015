#include "server/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/process_stats.h"

namespace syncnorm::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

double Number(uint64_t count) { return static_cast<double>(count); }
double Seconds(absl::Duration duration) { return absl::ToDoubleSeconds(duration); }

// The families in the order in which they were first named.
class Exposition {
 public:
  explicit Exposition(size_t series) { families_.reserve(series); }

  // Counters and gauges of labels that were there before: summed, or the largest of both.
  void Counter(const char* name, const char* help, Labels labels, double value) {
    At(name, help, MetricType::Counter, std::move(labels)).counter.value += value;
  }
  void Gauge(const char* name, const char* help, Labels labels, double value) {
    const size_t before = series_.size();
    ClientMetric& metric = At(name, help, MetricType::Gauge, std::move(labels));
    const bool made = series_.size() > before;
    metric.gauge.value = made ? value : std::max(metric.gauge.value, value);
  }
  template <const auto& kBoundsNs>
  void Distribution(const char* name, const char* help, Labels labels,
                    const Histogram<kBoundsNs>& from) {
    ClientMetric::Histogram& to =
        At(name, help, MetricType::Histogram, std::move(labels)).histogram;
    to.bucket.resize(from.kBuckets);
    uint64_t cumulative = 0;
    for (size_t i = 0; i < from.kBuckets; ++i) {
      cumulative += from.buckets()[i];
      to.bucket[i].cumulative_count += cumulative;
      to.bucket[i].upper_bound =
          i < from.kBounds ? Seconds(from.Bound(i)) : std::numeric_limits<double>::infinity();
    }
    to.sample_count += from.count();
    to.sample_sum += Seconds(from.sum());
  }

  std::string Text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  ClientMetric& At(const char* name, const char* help, MetricType type, Labels labels) {
    const auto [family, made] = index_.emplace(name, families_.size());
    if (made) families_.push_back({name, help, type, {}});
    std::vector<ClientMetric>& metrics = families_[family->second].metric;
    const auto [series, first] =
        series_.emplace(std::make_pair(family->second, labels), metrics.size());
    if (first) metrics.emplace_back().label = std::move(labels);
    return metrics[series->second];
  }

  std::vector<MetricFamily> families_;
  std::map<std::string, size_t> index_;
  std::map<std::pair<size_t, Labels>, size_t> series_;
};

void OfTheProcess(const Vitals& vitals, Exposition* to) {
  to->Gauge("syncnorm_build_info", "1; the labels tell the versions.",
            {{"version", vitals.version}, {"grpc", vitals.grpc_version}}, 1);
  to->Gauge("syncnorm_draining", "1 while it lets its rounds finish, to end.", {},
            vitals.status.snapshot.draining);
  to->Counter("syncnorm_log_dropped_total",
              "Lines of the log that were dropped, as nobody took them from stderr.", {},
              Number(vitals.log_dropped));
  const ProcessStats process = ReadProcessStats();
  to->Counter("process_cpu_seconds_total", "User and system CPU time.", {}, process.cpu_s);
  to->Gauge("process_resident_memory_bytes", "Memory that is in RAM.", {}, process.resident_bytes);
  to->Gauge("process_open_fds", "Open file descriptors.", {}, process.open_fds);
  to->Gauge("process_max_fds", "The most that may be open.", {}, process.max_fds);
  to->Gauge("process_start_time_seconds", "When it started, as seconds since 1970.", {},
            process.start_time_s);
}

void OfSecurity(const SecurityState& security, Exposition* to) {
  to->Gauge("syncnorm_insecure", "1: other machines can reach it in plaintext.", {},
            security.insecure);
  if (security.tls) {
    to->Gauge("syncnorm_certificate_not_after_seconds",
              "When the coordinator's certificate ends, as seconds since 1970.", {},
              absl::ToDoubleSeconds(security.certificate_not_after - absl::UnixEpoch()));
  }
  constexpr char kReloads[] = "syncnorm_reloads_total";
  constexpr char kReloadsHelp[] = "Certificates or tokens that changed and were read again.";
  to->Counter(kReloads, kReloadsHelp, {{"result", "ok"}}, Number(security.reloads));
  to->Counter(kReloads, kReloadsHelp, {{"result", "failed"}}, Number(security.reload_failures));
  for (const auto& [reason, calls] : security.refusals.ByReason()) {
    to->Counter("syncnorm_refused_total", "Streams and calls that were refused, by what was wrong.",
                {{"reason", reason}}, Number(calls));
  }
}

void OfAll(const Status& status, Exposition* to) {
  const Snapshot& now = status.snapshot;
  to->Gauge("syncnorm_streams", "Open streams of workers.", {}, Number(now.streams));
  to->Gauge("syncnorm_groups", "Groups that form or run.", {}, Number(now.groups));
  to->Gauge("syncnorm_members", "Members that are connected, of all groups.", {},
            Number(now.members));
  to->Gauge("syncnorm_members_away", "Members whose stream broke, and who may come back.", {},
            Number(now.away));
  to->Gauge("syncnorm_open_rounds", "Rounds that wait for members.", {}, Number(now.open_rounds));
  to->Gauge("syncnorm_open_bytes", "Bytes of values that open rounds hold.", {},
            Number(now.open_bytes));
  to->Gauge("syncnorm_kept_rounds", "Ended rounds that are kept to answer repeats.", {},
            Number(now.kept_rounds));
  to->Gauge("syncnorm_kept_bytes", "Bytes of ended rounds that are kept.", {},
            Number(now.kept_bytes));
  to->Gauge("syncnorm_epochs", "The last epoch that was issued.", {}, Number(now.epochs));

  const RoundCounters& rounds = now.rounds;
  to->Counter("syncnorm_contributions_total", "Contributions that came, repeats too.", {},
              Number(rounds.contributions));
  to->Counter("syncnorm_repeats_total", "Contributions that had come before.", {},
              Number(rounds.repeats));
  to->Counter("syncnorm_not_finite_total", "Contributions with a NaN or an infinity.", {},
              Number(rounds.not_finite));
  to->Counter("syncnorm_stragglers_total",
              "Rounds that waited for longer than --straggler_warning.", {},
              Number(rounds.stragglers));
  to->Counter("syncnorm_rounds_total", "Complete rounds.", {}, Number(rounds.completed));
  for (size_t code = 1; code < RoundCounters::kCodes; ++code) {
    to->Counter("syncnorm_rounds_failed_total", "Rounds that ended without a result, by code.",
                {{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}},
                Number(rounds.failed_by[code]));
  }
  to->Distribution("syncnorm_round_seconds",
                   "From a round's first contribution to its result, of complete rounds.", {},
                   rounds.durations);
  constexpr char kDumps[] = "syncnorm_dumps_total";
  constexpr char kDumpsHelp[] = "Reports on failures that were to be written to --dump_dir.";
  to->Counter(kDumps, kDumpsHelp, {{"result", "ok"}}, Number(status.dumps_written));
  to->Counter(kDumps, kDumpsHelp, {{"result", "failed"}}, Number(status.dumps_failed));
}

void OfGroup(const Report::Group& group, const std::string& name, Exposition* to) {
  const Labels labels = {{"group", name}};
  std::map<std::string, double> states;
  for (const char* state : {"here", "away", "absent", "left", "lost"}) states[state] = 0;
  for (const Report::Member& member : group.members) ++states[member.state];
  for (const auto& [state, members] : states) {
    to->Gauge("syncnorm_group_members", "Members of a group, by what has become of them.",
              {{"group", name}, {"state", state}}, members);
  }
  to->Counter("syncnorm_group_rounds_total", "Complete rounds of a group.", labels,
              Number(group.counters.completed));
  to->Counter("syncnorm_group_rounds_failed_total",
              "Rounds of a group that ended without a result.", labels,
              Number(group.counters.failed));
  to->Distribution(
      "syncnorm_group_round_seconds",
      "From a round's first contribution to its result, of complete rounds of a group.", labels,
      group.counters.durations);
  to->Gauge("syncnorm_group_oldest_open_round_seconds",
            "How long the round that is open longest has been; 0 without one.", labels,
            group.open.empty() ? 0 : Seconds(group.open.front().open));
}

void OfRank(const Report::Member& member, const std::string& group, const std::string& rank,
            Exposition* to) {
  const Labels labels = {{"group", group}, {"rank", rank}};
  const Lateness::Rank& lateness = member.lateness;
  to->Counter("syncnorm_rank_rounds_total", "Complete rounds that a rank took part in.", labels,
              Number(lateness.late.count()));
  to->Counter("syncnorm_rank_last_total", "Complete rounds in which a rank was the last to come.",
              labels, Number(lateness.last));
  to->Counter("syncnorm_rank_missed_total",
              "Rounds that failed at their deadline for want of a rank.", labels,
              Number(lateness.missed));
  to->Counter("syncnorm_rank_late_seconds_total",
              "How long after the rounds' first contributions a rank's came, together.", labels,
              Seconds(lateness.late.sum()));
}

void OfLayer(const Report::Layer& layer, const std::string& group, const std::string& name,
             Exposition* to) {
  const Labels labels = {
      {"direction", std::string(Name(layer.direction))}, {"group", group}, {"layer", name}};
  to->Counter("syncnorm_layer_rounds_total", "Complete rounds of a layer.", labels,
              Number(layer.rounds));
  to->Counter("syncnorm_layer_wait_seconds_total",
              "From the first to the last contribution of a layer's rounds, together.", labels,
              Seconds(layer.wait));
  if (!layer.drift) return;
  const Labels forward = {{"group", group}, {"layer", name}};
  if (layer.drift->shift) {
    to->Gauge("syncnorm_layer_shift",
              "How far the members' own means were from the group's, in its deviations, root mean "
              "square; measured now and then.",
              forward, *layer.drift->shift);
  }
  to->Gauge("syncnorm_layer_spread",
            "How far the members' own deviations were from the group's, as the logarithm of their "
            "ratio, root mean square; measured now and then.",
            forward, layer.drift->spread);
}

// The groups to tell: of each name the latest, in order of making.
std::vector<const Report::Group*> Latest(const std::vector<Report::Group>& groups) {
  std::map<std::string, const Report::Group*> latest;
  for (const Report::Group& group : groups) latest[group.name] = &group;
  std::vector<const Report::Group*> told;
  for (const Report::Group& group : groups) {
    if (latest[group.name] == &group) told.push_back(&group);
  }
  return told;
}

void OfGroups(const std::vector<Report::Group>& groups, const MetricLimits& limits,
              Exposition* to) {
  size_t groups_told = 0, ranks_told = 0, layers_told = 0;
  for (const Report::Group* group : Latest(groups)) {
    const bool apart = groups_told++ < limits.groups;
    const std::string name = apart ? group->name : kOthers;
    OfGroup(*group, name, to);
    for (const Report::Member& member : group->members) {
      OfRank(member, name,
             apart && ranks_told++ < limits.ranks ? absl::StrCat(member.rank) : kOthers, to);
    }
    for (const Report::Layer& layer : group->layers) {
      OfLayer(layer, name, apart && layers_told++ < limits.layers ? layer.name : kOthers, to);
    }
    if (group->other_layers.rounds > 0) OfLayer(group->other_layers, name, kOthers, to);
  }
}

}  // namespace

std::string MetricsText(const Vitals& vitals, const MetricLimits& limits) {
  Exposition exposition(64);
  OfTheProcess(vitals, &exposition);
  OfSecurity(vitals.security, &exposition);
  OfAll(vitals.status, &exposition);
  OfGroups(vitals.report.groups, limits, &exposition);
  return exposition.Text();
}

}  // namespace syncnorm::server
