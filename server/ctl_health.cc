#include "absl/strings/str_cat.h"
#include "server/ctl_call.h"
#include "server/ctl_command.h"
#include "server/ctl_text.h"

namespace syncnorm::server {

absl::StatusOr<int> CtlHealth(const CtlFlags& flags, std::FILE* out) {
  absl::StatusOr<CtlCalls> calls = CtlCalls::Make(flags);
  if (!calls.ok()) return calls.status();
  const absl::StatusOr<health::ServingStatus> serving = calls->Health(flags.service);
  if (!serving.ok()) return serving.status();
  const char* const name = health::Name(*serving);
  const absl::StatusOr<int> printed =
      Print(flags.json ? absl::StrCat("{\"status\": \"", name, "\"}\n")
                       : absl::StrCat(flags.address, ": ", name, "\n"),
            out);
  if (!printed.ok()) return printed;
  return *serving == health::ServingStatus::kServing ? 0 : 1;
}

}  // namespace syncnorm::server
