#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/clock.h"
#include "server/ctl_call.h"
#include "server/ctl_command.h"
#include "server/ctl_text.h"

namespace syncnorm::server {
namespace {

constexpr absl::Duration kUsualWait = absl::Minutes(1);
constexpr absl::Duration kLook = absl::Milliseconds(100);

// Whether that coordinator has ended: nobody answers, or another one in its place.
bool Gone(const absl::StatusOr<v1::StatusReply>& status, uint64_t coordinator_id) {
  if (status.ok()) return status->coordinator_id() != coordinator_id;
  return status.status().code() == absl::StatusCode::kUnavailable;
}

}  // namespace

absl::StatusOr<int> CtlDrain(const CtlFlags& flags, std::FILE* out) {
  absl::StatusOr<CtlCalls> calls = CtlCalls::Make(flags);
  if (!calls.ok()) return calls.status();
  const absl::StatusOr<v1::StatusReply> before = calls->Status();
  if (!before.ok()) return before.status();
  if (absl::Status asked = calls->Drain(); !asked.ok()) return asked;
  if (!flags.wait) return Print(absl::StrCat(flags.address, ": drains\n"), out);

  const absl::Duration wait = flags.Given("timeout") ? flags.timeout : kUsualWait;
  const absl::Time end = MonotonicClock().Now() + wait;
  while (!Gone(calls->Status(), before->coordinator_id())) {
    if (MonotonicClock().Now() > end) {
      return absl::DeadlineExceededError(absl::StrCat(
          flags.address, ": drains, and is still there after ", absl::FormatDuration(wait)));
    }
    absl::SleepFor(kLook);
  }
  return Print(absl::StrCat(flags.address, ": drained\n"), out);
}

}  // namespace syncnorm::server
