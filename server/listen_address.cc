#include "server/listen_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace syncnorm::server {
namespace {

constexpr char kUnix[] = "unix:";

absl::Status Unavailable(const ListenAddress& address, const char* why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", address.With(address.port), ": ", why));
}

absl::Status TryUnix(const ListenAddress& address) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  address.path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Unavailable(address, std::strerror(errno));
  const absl::Cleanup closer = [fd] { close(fd); };
  const auto* generic = reinterpret_cast<const sockaddr*>(&name);
  if (connect(fd, generic, sizeof(name)) == 0) {
    return Unavailable(address, std::strerror(EADDRINUSE));
  }
  // What nobody listens on any more is gRPC's to replace.
  if (errno == ECONNREFUSED || errno == ENOENT) return absl::OkStatus();
  return Unavailable(address, std::strerror(errno));
}

}  // namespace

absl::StatusOr<ListenAddress> ListenAddress::Parse(const std::string& text) {
  ListenAddress address;
  const auto bad = [&](const char* why) {
    return absl::InvalidArgumentError(absl::StrCat("address \"", text, "\": ", why));
  };
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, kUnix)) {
    if (rest.empty()) return bad("a path is missing after unix:");
    if (rest.size() >= sizeof(sockaddr_un::sun_path)) return bad("the path is too long");
    address.path = std::string(rest);
    return address;
  }
  const size_t colon = rest.rfind(':');
  if (colon == absl::string_view::npos) return bad("expected HOST:PORT or unix:PATH");
  absl::string_view host = rest.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return bad("a ] is missing");
  } else if (absl::StrContains(host, ":")) {
    return bad("an IPv6 address is written [::1]:PORT");
  }
  if (host.empty()) return bad("the host is missing; 0.0.0.0 means all interfaces");
  if (!absl::SimpleAtoi(rest.substr(colon + 1), &address.port) || address.port < 0 ||
      address.port > 65535) {
    return bad("the port is not a number from 0 to 65535");
  }
  address.host = std::string(host);
  return address;
}

bool ListenAddress::local() const {
  if (is_unix() || host == "localhost") return true;
  // As an address, not as text: a name may begin with "127." too.
  in_addr v4 = {};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
  in6_addr v6 = {};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

std::string ListenAddress::With(int bound_port) const {
  if (is_unix()) return absl::StrCat(kUnix, path);
  const bool v6 = absl::StrContains(host, ":");
  return absl::StrCat(v6 ? "[" : "", host, v6 ? "]" : "", ":", bound_port);
}

absl::Status TryToBind(const ListenAddress& address) {
  if (address.is_unix()) return TryUnix(address);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(address.host.c_str(), absl::StrCat(address.port).c_str(), &hints, &found);
  if (error != 0) return Unavailable(address, gai_strerror(error));
  const absl::Cleanup freer = [found] { freeaddrinfo(found); };
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) return Unavailable(address, std::strerror(errno));
    const absl::Cleanup closer = [fd] { close(fd); };
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, at->ai_addr, at->ai_addrlen) != 0) {
      return Unavailable(address, std::strerror(errno));
    }
  }
  return absl::OkStatus();
}

}  // namespace syncnorm::server
