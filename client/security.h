// ChannelSecurity: how a worker's connection is protected, as GroupOptions say
// it, and the rules: what belongs together, and that a token is never sent in
// plaintext to another machine.
//
// Thread-safety: plain values, and functions of them and of the token's file.
#pragma once

#include <syncnorm/group.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm {

struct ChannelSecurity {
  TlsOptions tls;
  std::string token;
  std::string token_file;
  bool insecure = false;

  bool uses_tls() const { return !tls.ca_file.empty(); }
  bool has_token() const { return !token.empty() || !token_file.empty(); }
};

ChannelSecurity SecurityOf(const GroupOptions& options);

// Where a gRPC target leads.
struct Target {
  std::string path;  // of a unix socket; empty otherwise
  std::string host;  // without brackets; "localhost" for a unix socket
  std::string port;

  // Whether it cannot leave this machine.
  bool local() const;
};
// A target that is not of the form HOST:PORT, dns:, ipv4:, ipv6: or unix: has neither path nor
// host, and is not local.
Target ParseTarget(const std::string& address);

// kInvalidArgument names the option, as it is called in GroupOptions.
absl::Status CheckSecurity(const std::string& address, const ChannelSecurity& security);

// The token to send now; empty: none.  kFailedPrecondition: its file cannot be read (why), or does
// not hold one token.  Never quotes what is in it.
absl::StatusOr<std::string> ReadToken(const ChannelSecurity& security);

}  // namespace syncnorm
