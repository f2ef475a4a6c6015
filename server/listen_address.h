// ListenAddress: where a coordinator listens, as a person writes it:
//   127.0.0.1:7070   localhost:7070   [::1]:7070   0.0.0.0:7070   unix:/run/syncnorm.sock
//
// Thread-safety: plain values.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm::server {

struct ListenAddress {
  std::string host;  // without brackets; empty for a unix socket
  int port = 0;
  std::string path;  // of a unix socket; empty otherwise

  bool is_unix() const { return !path.empty(); }
  // Whether only this machine can reach it.
  bool local() const;
  // As gRPC takes it, and as a client of this machine does, with the port that was bound.
  std::string With(int bound_port) const;

  // kInvalidArgument says what is wrong with `text`.
  static absl::StatusOr<ListenAddress> Parse(const std::string& text);
};

// OK if the address could be bound now.  gRPC tells only that it could not; the reason is found by
// trying.  kUnavailable: in use, or not this machine's.
absl::Status TryToBind(const ListenAddress& address);

}  // namespace syncnorm::server
