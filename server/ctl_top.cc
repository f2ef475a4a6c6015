#include <cstdio>
#include <optional>
#include <string>

#include "proto/admin_json.h"
#include "server/ctl_call.h"
#include "server/ctl_command.h"
#include "server/ctl_terminal.h"
#include "server/ctl_top_frame.h"

namespace syncnorm::server {
namespace {

// Whether asking again is of no use.
bool ForGood(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kInvalidArgument:
      return true;
    default:
      return false;
  }
}

absl::Status ShowFrame(const CtlFlags& flags, const absl::StatusOr<v1::VitalsReply>& vitals,
                       CtlTerminal* terminal) {
  const FrameSize size = terminal->size();
  if (vitals.ok()) {
    return terminal->Show(flags.json ? AdminJson(*vitals) : TopFrame(flags.address, *vitals, size))
        .status();
  }
  const std::string frame = TopFrameWithout(std::string(vitals.status().message()),
                                            absl::ToDoubleSeconds(flags.interval), size);
  if (!flags.json) return terminal->Show(frame).status();
  std::fputs(frame.c_str(), stderr);  // nothing but JSON on the other
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<int> CtlTop(const CtlFlags& flags, std::FILE* out) {
  // Files that cannot be used are said before the screen is taken, and so is a refusal.
  absl::StatusOr<CtlCalls> calls = CtlCalls::Make(flags);
  if (!calls.ok()) return calls.status();
  std::optional<CtlTerminal> terminal;
  for (uint32_t frame = 1;; ++frame) {
    const absl::StatusOr<v1::VitalsReply> vitals =
        calls.ok() ? calls->Vitals(flags.group) : calls.status();
    if (ForGood(vitals.status())) return vitals.status();
    if (!terminal) terminal.emplace(out, /*screen=*/!flags.json);
    if (absl::Status shown = ShowFrame(flags, vitals, &*terminal); !shown.ok()) return shown;
    if (frame == flags.count) return vitals.ok() ? 0 : 1;
    if (!terminal->Wait(flags.interval)) return 0;
    // gRPC's own attempts come ever later; and the files may be others by now.
    if (!vitals.ok()) calls = CtlCalls::Make(flags);
  }
}

}  // namespace syncnorm::server
