#include "server/ctl_table.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace syncnorm::server {
namespace {

// Lines of each part of a table: it fits a screen, and --json has the rest.
constexpr size_t kRanks = 32;
constexpr size_t kLayers = 10;
constexpr size_t kRounds = 10;

// "12.3 ms"
std::string Time(double seconds) {
  if (seconds < 1e-3) return absl::StrFormat("%.0f us", seconds * 1e6);
  if (seconds < 1) return absl::StrFormat("%.1f ms", seconds * 1e3);
  return absl::StrFormat("%.1f s", seconds);
}

double Share(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

// The text's width is counted in characters, where printf counts bytes.
std::string Left(std::string text, size_t width) {
  const auto starts = [](char c) { return (c & 0xC0) != 0x80; };
  const auto length = static_cast<size_t>(std::count_if(text.begin(), text.end(), starts));
  if (length < width) text.append(width - length, ' ');
  return text;
}

// Peers choose names: nothing in them may steer a terminal.
std::string Plain(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

template <typename Ranks>
std::string List(const Ranks& ranks, uint32_t count) {
  if (count == 0) return "none";
  std::string text = absl::StrCat(count == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ","));
  if (count > static_cast<uint32_t>(ranks.size())) absl::StrAppend(&text, ",... (", count, ")");
  return text;
}

std::string Describe(const v1::RoundReportKey& key) {
  return absl::StrFormat("round %.0f %s (%s, step %.0f)", key.round(), Plain(key.layer()),
                         key.direction(), key.step());
}

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
                    " waits for ", List(round.missing(), round.missing_count()), "\n");
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
  if (report.groups_left_out() > 0) {
    absl::StrAppend(&text, "\n", report.groups_left_out(),
                    " groups left out; ask for them with --group\n");
  }
  return text;
}

std::string Table(const v1::StatusReply& status) {
  std::string text = absl::StrFormat("coordinator %016x\n", status.coordinator_id());
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
  return text;
}

}  // namespace syncnorm::server
