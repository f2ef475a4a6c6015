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

// Whose contribution was the last to come most often, since the epoch began.
std::string LastMost(const v1::GroupReport& group) {
  const v1::MemberReport* most = nullptr;
  for (const v1::MemberReport& member : group.members()) {
    if (member.last() > 0 && (most == nullptr || member.last() > most->last())) most = &member;
  }
  if (most == nullptr) return "-";
  return absl::StrFormat("rank %d %.1f%%", most->rank(), Share(most->last(), most->rounds()));
}

}  // namespace

std::string GroupsTable(const v1::VitalsReply& vitals) {
  if (vitals.groups().empty() && vitals.groups_left_out() == 0) return "no groups\n";
  size_t width = 5;
  for (const v1::GroupReport& group : vitals.groups()) {
    width = std::max(width, Plain(group.name()).size());
  }
  std::string text = absl::StrCat(
      Left("group", width),
      "   epoch  state    here/of      rounds   failed  rounds/s        p50        p99  last\n");
  for (const v1::GroupReport& group : vitals.groups()) {
    const v1::RecentReport& recent = group.recent();
    absl::StrAppendFormat(&text, "%s  %6.0f  %-7s  %7s  %10.0f  %7.0f  %8.1f  %9s  %9s  %s\n",
                          Left(Plain(group.name()), width), group.epoch(), group.state(),
                          HereOf(group), group.counters().completed(), group.counters().failed(),
                          recent.rounds_per_s(), recent.has_p50_s() ? Time(recent.p50_s()) : "-",
                          recent.has_p99_s() ? Time(recent.p99_s()) : "-", LastMost(group));
  }
  return text + LeftOut(vitals.groups_left_out());
}

absl::StatusOr<int> CtlGroups(const CtlFlags& flags, std::FILE* out) {
  absl::StatusOr<CtlCalls> calls = CtlCalls::Make(flags);
  if (!calls.ok()) return calls.status();
  const absl::StatusOr<v1::VitalsReply> vitals = calls->Vitals(flags.group);
  if (!vitals.ok()) return vitals.status();
  return Print(flags.json ? AdminJson(*vitals) : GroupsTable(*vitals), out);
}

}  // namespace syncnorm::server
