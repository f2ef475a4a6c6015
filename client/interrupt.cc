#include <syncnorm/interrupt.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace syncnorm {
namespace {

thread_local const InterruptScope* innermost = nullptr;

}  // namespace

InterruptScope::InterruptScope(std::function<bool()> interrupted)
    : interrupted_(std::move(interrupted)), outer_(innermost) {
  innermost = this;
}

InterruptScope::~InterruptScope() { innermost = outer_; }

bool InterruptScope::active() { return innermost != nullptr; }

bool InterruptScope::Interrupted() { return innermost != nullptr && innermost->interrupted_(); }

absl::Time InterruptScope::NextLook(absl::Time now, absl::Time deadline) {
  return active() ? std::min(deadline, now + kLook) : deadline;
}

absl::Status InterruptScope::Status(const std::string& what) {
  return absl::CancelledError(absl::StrCat(what, " was interrupted"));
}

}  // namespace syncnorm
