#include "client/security.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace syncnorm {
namespace {

// A JSON web token of a large cluster has 2 KB; gRPC's metadata of one call are limited to 8 KiB.
constexpr size_t kMaxTokenBytes = 4096;

// The token68 of RFC 6750; also what gRPC may send.
bool IsToken(absl::string_view text) {
  return !text.empty() && text.size() <= kMaxTokenBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' ||
                  c == '_' || c == '~' || c == '+' || c == '/' || c == '=';
         });
}

absl::Status Invalid(absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("GroupOptions.", why));
}

void SplitHostPort(absl::string_view text, Target* target) {
  if (absl::ConsumePrefix(&text, "[")) {
    const size_t end = text.find(']');
    if (end == absl::string_view::npos) return;
    target->host = std::string(text.substr(0, end));
    text.remove_prefix(end + 1);
    target->port = std::string(absl::StripPrefix(text, ":"));
    return;
  }
  const size_t colon = text.find(':');
  target->host = std::string(text.substr(0, colon));
  if (colon != absl::string_view::npos) target->port = std::string(text.substr(colon + 1));
}

}  // namespace

ChannelSecurity SecurityOf(const GroupOptions& options) {
  return {options.tls, options.token, options.token_file, options.insecure};
}

bool Target::local() const {
  if (!path.empty() || host == "localhost") return true;
  // As an address, not as text: a name may begin with "127." too.
  in_addr v4 = {};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
  in6_addr v6 = {};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

Target ParseTarget(const std::string& address) {
  Target target;
  absl::string_view rest = address;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    absl::ConsumePrefix(&rest, "//");
    target.path = std::string(rest);
    target.host = "localhost";
    return target;
  }
  // Several addresses are not parsed: not all of them may be on this machine.
  if (absl::StrContains(rest, ",")) return target;
  if (absl::ConsumePrefix(&rest, "dns:")) {
    if (absl::ConsumePrefix(&rest, "//")) {
      const size_t slash = rest.find('/');  // after the name server
      rest = slash == absl::string_view::npos ? absl::string_view() : rest.substr(slash + 1);
    }
  } else if (!absl::ConsumePrefix(&rest, "ipv4:")) {
    absl::ConsumePrefix(&rest, "ipv6:");
  }
  SplitHostPort(rest, &target);
  return target;
}

absl::Status CheckSecurity(const std::string& address, const ChannelSecurity& security) {
  const TlsOptions& tls = security.tls;
  if (tls.cert_file.empty() != tls.key_file.empty()) {
    return Invalid(tls.key_file.empty() ? "tls.key_file is empty, but tls.cert_file is set"
                                        : "tls.cert_file is empty, but tls.key_file is set");
  }
  if (!security.uses_tls() && (!tls.cert_file.empty() || !tls.server_name.empty())) {
    return Invalid(
        "tls.ca_file is empty, but other parts of tls are set: it names the authorities "
        "of the coordinator's certificate, and TLS is used when it is set");
  }
  if (!security.token.empty() && !security.token_file.empty()) {
    return Invalid("token and token_file are both set, expected at most one");
  }
  if (!security.token.empty() && !IsToken(security.token)) {
    return Invalid(absl::StrCat("token has ", security.token.size(), " bytes, expected 1 to ",
                                kMaxTokenBytes, " of [A-Za-z0-9._~+/=-]"));
  }
  if (security.has_token() && !security.uses_tls() && !security.insecure &&
      !ParseTarget(address).local()) {
    return Invalid(absl::StrCat(
        security.token.empty() ? "token_file" : "token", " is set and the connection to ", address,
        " would be in plaintext, where everybody on the way can read the token: set tls, or "
        "insecure if that is meant"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadToken(const ChannelSecurity& security) {
  if (security.token_file.empty()) return security.token;
  const std::string& path = security.token_file;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                             &std::fclose);
  std::string text(2 * kMaxTokenBytes, '\0');
  if (file != nullptr) text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (file == nullptr || std::ferror(file.get()) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("token file ", path, ": cannot be read: ", std::strerror(errno)));
  }
  absl::StripAsciiWhitespace(&text);
  if (IsToken(text)) return text;
  return absl::FailedPreconditionError(absl::StrCat("token file ", path,
                                                    ": expected one token, 1 to ", kMaxTokenBytes,
                                                    " of [A-Za-z0-9._~+/=-]"));
}

}  // namespace syncnorm
