#include "client/options.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/security.h"
#include "proto/wire.h"

namespace syncnorm {
namespace {

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("GroupOptions.", parts...));
}

absl::Status CheckTimeout(const char* name, absl::Duration value) {
  if (value > absl::ZeroDuration() && value < absl::InfiniteDuration()) return absl::OkStatus();
  return Invalid(name, " is ", absl::FormatDuration(value), ", expected more than 0 and finite");
}

absl::Status CheckLength(const char* name, const std::string& value, size_t largest) {
  if (value.size() <= largest) return absl::OkStatus();
  return Invalid(name, " has ", value.size(), " bytes, at most ", largest, " are allowed");
}

bool IsGroupNameByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '/' ||
         c == ':' || c == '-';
}

}  // namespace

absl::Status CheckOptions(const GroupOptions& options) {
  if (options.address.empty()) {
    return Invalid("address is empty, expected \"host:port\" or a gRPC target");
  }
  if (options.group.empty() || options.group.size() > wire::kMaxGroupNameBytes ||
      !std::all_of(options.group.begin(), options.group.end(), IsGroupNameByte)) {
    return Invalid("group is \"", absl::CHexEscape(options.group), "\", expected 1 to ",
                   wire::kMaxGroupNameBytes, " of [A-Za-z0-9._/:-]");
  }
  if (options.world_size < 1 || options.world_size > static_cast<int>(wire::kMaxWorldSize)) {
    return Invalid("world_size is ", options.world_size, ", expected 1 to ", wire::kMaxWorldSize);
  }
  if (options.rank < 0 || options.rank >= options.world_size) {
    return Invalid("rank is ", options.rank, ", expected 0 to ", options.world_size - 1,
                   " (world_size is ", options.world_size, ")");
  }
  for (const absl::Status& s : {CheckLength("host", options.host, wire::kMaxHostNameBytes),
                                CheckLength("job", options.job, wire::kMaxJobBytes),
                                CheckTimeout("connect_timeout", options.connect_timeout),
                                CheckTimeout("round_timeout", options.round_timeout)}) {
    if (!s.ok()) return s;
  }
  return CheckSecurity(options.address, SecurityOf(options));
}

std::string HostName() {
  char name[wire::kMaxHostNameBytes + 1] = {};
  if (gethostname(name, wire::kMaxHostNameBytes) != 0 || name[0] == '\0') return "unknown";
  return name;
}

}  // namespace syncnorm
