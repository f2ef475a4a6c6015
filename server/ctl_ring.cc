#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "proto/admin_json.h"
#include "server/ctl_call.h"
#include "server/ctl_command.h"
#include "server/ctl_table.h"
#include "server/ctl_text.h"

namespace syncnorm::server {
namespace {

// A screen of them.
constexpr uint32_t kUsualRounds = 20;
// "model.backbone.layer4.2.bn1" and longer ones; the whole name is in --json.
constexpr size_t kLayerWidth = 32;

void AppendRound(const v1::RoundReport& round, std::string* text) {
  const v1::RoundReportKey& key = round.key();
  const auto rank = [](bool has, uint32_t number) {
    return has ? absl::StrCat(number) : std::string("-");
  };
  absl::StrAppendFormat(text, "  %8.0f  %s  %-8s  %8.0f  %9s  %9s  %9s  %4d  %5s  %4s  %s\n",
                        key.round(), Left(Cut(Plain(key.layer()), kLayerWidth), kLayerWidth),
                        key.direction(), key.step(), Time(round.ended_s()), Time(round.open_s()),
                        Time(round.wait_s()), round.arrivals(),
                        rank(round.has_first_rank(), round.first_rank()),
                        rank(round.has_last_rank(), round.last_rank()), round.outcome());
  if (round.missing_count() > 0) {
    absl::StrAppend(text, "            missing: ", RankList(round.missing(), round.missing_count()),
                    "\n");
  }
  if (!round.text().empty()) absl::StrAppend(text, "            ", Plain(round.text()), "\n");
}

}  // namespace

std::string RingTable(const v1::ReportReply& report) {
  if (report.groups().empty() && report.groups_left_out() == 0) return "no groups\n";
  std::string text;
  for (const v1::GroupReport& group : report.groups()) {
    absl::StrAppendFormat(&text, "%sgroup \"%s\" epoch %.0f, %s: %d ended rounds\n",
                          text.empty() ? "" : "\n", Plain(group.name()), group.epoch(),
                          group.state(), group.rounds_size());
    if (group.rounds().empty()) continue;
    absl::StrAppend(&text, "     round  ", Left("layer", kLayerWidth),
                    "  direction     step  ended ago       open       wait  came  first  last  "
                    "outcome\n");
    for (const v1::RoundReport& round : group.rounds()) AppendRound(round, &text);
  }
  return text + LeftOut(report.groups_left_out());
}

absl::StatusOr<int> CtlRing(const CtlFlags& flags, std::FILE* out) {
  absl::StatusOr<CtlCalls> calls = CtlCalls::Make(flags);
  if (!calls.ok()) return calls.status();
  absl::StatusOr<v1::ReportReply> report =
      calls->Report(flags.group, flags.rounds == 0 ? kUsualRounds : flags.rounds);
  if (!report.ok()) return report.status();
  if (!flags.json) return Print(RingTable(*report), out);
  // The form of report, without what is not of the rounds.
  for (v1::GroupReport& group : *report->mutable_groups()) {
    v1::GroupReport rest;
    rest.set_name(group.name());
    rest.set_epoch(group.epoch());
    rest.set_state(group.state());
    rest.mutable_rounds()->Swap(group.mutable_rounds());
    group.Swap(&rest);
  }
  return Print(AdminJson(*report), out);
}

}  // namespace syncnorm::server
