#include "proto/admin_json.h"
#include "server/ctl_call.h"
#include "server/ctl_command.h"
#include "server/ctl_table.h"
#include "server/ctl_text.h"

namespace syncnorm::server {

absl::StatusOr<int> CtlReport(const CtlFlags& flags, std::FILE* out) {
  absl::StatusOr<CtlCalls> calls = CtlCalls::Make(flags);
  if (!calls.ok()) return calls.status();
  const absl::StatusOr<v1::ReportReply> report = calls->Report(flags.group, flags.rounds);
  if (!report.ok()) return report.status();
  return Print(flags.json ? AdminJson(*report) : Table(*report), out);
}

}  // namespace syncnorm::server
