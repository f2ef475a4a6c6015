// Why a TLS connection to the coordinator did not come about, in words: gRPC
// says "handshake failed" at best, and "Socket closed" when it was the
// coordinator that refused.
//
// Only after a failure.  It makes one TLS connection of its own to look at the
// coordinator's certificate and at what becomes of this side's, sends nothing on
// it, and closes it.
//
// Thread-safety: functions of their arguments, the files and the network.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/security.h"

namespace syncnorm {

// kUnauthenticated: what is wrong, and will be at the next try too: the coordinator's certificate
// expired, is not valid yet, comes from another authority or is for another name; the
// coordinator refuses this side's certificate, or asks for one and there is none; one side speaks
// TLS and the other does not.  Dates come with `wall_now`.
// kUnavailable: what is likely, but may be gone at the next try.
// OK: nothing of the kind was found within `budget`; the failure has another reason.
absl::Status DiagnoseTls(const std::string& address, const ChannelSecurity& security,
                         absl::Time wall_now, absl::Duration budget);

}  // namespace syncnorm
