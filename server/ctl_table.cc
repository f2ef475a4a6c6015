#include "server/ctl_table.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/ctl_text.h"

namespace syncnorm::server {
namespace {

// Lines of each part of a table: it fits a screen, and --json has the rest.
constexpr size_t kRanks = 32;
constexpr size_t kLayers = 10;
constexpr size_t kRounds = 10;

void AppendMembers(const v1::GroupReport& group, std::string* text) {
  std::vector<const v1::MemberReport*> members;
  for (const v1::MemberReport& member : group.members()) members.push_back(&member);
  std::stable_sort(members.begin(), members.end(), [](const auto* one, const auto* two) {
    if (one->last() != two->last()) return one->last() > two->last();
    return one->missed() > two->missed();
  });
  absl::StrAppend(text,
                  "   rank       last        mean        max  missed  state   heard    host\n");
  for (size_t i = 0; i < members.size() && i < kRanks; ++i) {
    const v1::MemberReport& member = *members[i];
    absl::StrAppendFormat(text, "  %5d  %8.1f%%  %10s %10s  %6.0f  %-6s  %-7s  %s pid %d\n",
                          member.rank(), Share(member.last(), member.rounds()),
                          Time(member.late_mean_s()), Time(member.late_max_s()), member.missed(),
                          member.state(), member.has_heard_s() ? Time(member.heard_s()) : "never",
                          Plain(member.host()), member.pid());
  }
  if (members.size() > kRanks) {
    absl::StrAppend(text, "         and ", members.size() - kRanks, " ranks that were last less\n");
  }
}

void AppendLayer(const v1::LayerReport& layer, const std::string& name, std::string* text) {
  std::vector<std::string> last;
  for (const v1::LastReport& one : layer.last()) {
    last.push_back(
        absl::StrFormat("rank %d %.1f%%", one.rank(), Share(one.rounds(), layer.rounds())));
  }
  absl::StrAppendFormat(text, "  %s %10s %10s %10s  %s\n", Left(name, 40),
                        Time(layer.wait_s() / std::max(layer.rounds(), 1.0)),
                        Time(layer.wait_max_s()), Time(layer.wait_s()), absl::StrJoin(last, ", "));
}

void AppendLayers(const v1::GroupReport& group, std::string* text) {
  if (group.layers().empty()) return;
  std::vector<const v1::LayerReport*> layers;
  for (const v1::LayerReport& layer : group.layers()) layers.push_back(&layer);
  std::stable_sort(layers.begin(), layers.end(),
                   [](const auto* one, const auto* two) { return one->wait_s() > two->wait_s(); });
  absl::StrAppend(text, "  ", Left("layer", 40), "       mean        max        sum  last\n");
  for (size_t i = 0; i < layers.size() && i < kLayers; ++i) {
    AppendLayer(*layers[i], absl::StrCat(Plain(layers[i]->name()), " ", layers[i]->direction()),
                text);
  }
  if (layers.size() > kLayers) {
    absl::StrAppend(text, "  and ", layers.size() - kLayers, " layers that waited less\n");
  }
  if (group.has_other_layers()) {
    AppendLayer(group.other_layers(), "all others, beyond --max_layers", text);
  }
}

void AppendRounds(const v1::GroupReport& group, std::string* text) {
  for (int i = 0; i < group.open_size() && i < static_cast<int>(kRounds); ++i) {
    const v1::OpenRoundReport& round = group.open(i);
    absl::StrAppend(text, "  open for ", Time(round.open_s()), ": ", Describe(round.key()),
                    " waits for ", RankList(round.missing(), round.missing_count()), "\n");
  }
  size_t failed = 0;
  for (const v1::RoundReport& round : group.rounds()) {
    if (round.outcome() == "complete" || ++failed > kRounds) continue;
    absl::StrAppend(text, "  failed ", Time(round.ended_s()), " ago, after ", Time(round.open_s()),
                    ": ", round.outcome(), ": ", Plain(round.text()), "\n");
  }
}

}  // namespace

std::string Table(const v1::ReportReply& report) {
  if (report.groups().empty()) return "no groups\n";
  std::string text;
  for (const v1::GroupReport& group : report.groups()) {
    double rounds = 0;
    for (const v1::LayerReport& layer : group.layers()) rounds += layer.rounds();
    absl::StrAppendFormat(&text, "%sgroup \"%s\" epoch %.0f, %s: %d members, %.0f rounds\n",
                          text.empty() ? "" : "\n", Plain(group.name()), group.epoch(),
                          group.state(), group.members_size(),
                          rounds + group.other_layers().rounds());
    AppendMembers(group, &text);
    AppendLayers(group, &text);
    AppendRounds(group, &text);
  }
  if (report.groups_left_out() > 0) absl::StrAppend(&text, "\n", LeftOut(report.groups_left_out()));
  return text;
}

std::string Table(const v1::VitalsReply& vitals) {
  const v1::StatusReply& status = vitals.status();
  std::string text =
      absl::StrFormat("coordinator %016x, version %s, up %s%s\n", status.coordinator_id(),
                      vitals.version(), Time(vitals.up_s()), vitals.draining() ? ", DRAINING" : "");
  const auto line = [&](const char* name, double value) {
    absl::StrAppendFormat(&text, "  %-18s %12.0f\n", name, value);
  };
  line("streams", status.streams());
  line("groups", status.groups());
  line("members", status.members());
  line("open rounds", status.open_rounds());
  line("open bytes", status.open_bytes());
  line("kept rounds", status.kept_rounds());
  line("kept bytes", status.kept_bytes());
  absl::StrAppend(&text, "since its start\n");
  line("epochs", status.epochs());
  line("contributions", status.contributions());
  line("repeats", status.repeats());
  line("rounds completed", status.rounds_completed());
  line("rounds failed", status.rounds_failed());
  line("stragglers", status.stragglers());
  line("dumps written", status.dumps_written());
  line("dumps failed", status.dumps_failed());
  const v1::SecurityReport& security = vitals.security();
  absl::StrAppend(&text, "protection\n  ", security.tls() ? "TLS" : "no TLS", ", ",
                  security.tokens() ? "tokens" : "no tokens",
                  security.insecure() ? "; INSECURE: other machines reach it in plaintext" : "",
                  "\n");
  if (security.has_certificate_left_s()) {
    const double left = security.certificate_left_s();
    absl::StrAppend(&text, "  its certificate ",
                    left < 0 ? absl::StrCat("ENDED ", Time(-left), " ago")
                             : absl::StrCat("ends in ", Time(left)),
                    "\n");
  }
  if (security.reload_failures() > 0) line("failed reloads", security.reload_failures());
  for (const v1::RefusedReport& refused : security.refused()) {
    if (refused.calls() > 0) {
      line(absl::StrCat("refused: ", refused.reason()).c_str(), refused.calls());
    }
  }
  return text;
}

}  // namespace syncnorm::server
