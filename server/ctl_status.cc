#include "proto/admin_json.h"
#include "server/ctl_call.h"
#include "server/ctl_command.h"
#include "server/ctl_table.h"
#include "server/ctl_text.h"

namespace syncnorm::server {

absl::StatusOr<int> CtlStatus(const CtlFlags& flags, std::FILE* out) {
  absl::StatusOr<CtlCalls> calls = CtlCalls::Make(flags);
  if (!calls.ok()) return calls.status();
  absl::StatusOr<v1::VitalsReply> vitals = calls->Vitals("");
  if (!vitals.ok()) return vitals.status();
  vitals->clear_groups();  // groups has them
  return Print(flags.json ? AdminJson(*vitals) : Table(*vitals), out);
}

}  // namespace syncnorm::server
