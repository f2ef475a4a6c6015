// Server: a coordinator that listens: the gRPC server, the Service and its
// thread, from start to stop.  Any number in one process, one after the
// other or together.
//
//   Start ----> serving ---- Drain ----> draining ----> stopped
//                  |                                       ^
//                  +------------- ~Server -----------------+
//
// Thread-safety: thread-compatible.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/coordinator.h"
#include "server/listen_address.h"
#include "server/security.h"

namespace syncnorm::server {

struct ServerOptions {
  ListenAddress listen;  // port 0 picks one
  Settings settings;     // coordinator_id 0 picks one
  // For reports of failures: a directory that is there and may be written to.  Empty: none are
  // written.
  std::string dump_dir;
  SecurityOptions security;
  // Called when a caller of the Admin service with the right to do so asks for the end, on a thread
  // that must not wait.  Null: such a call is refused.
  std::function<void()> on_drain_request;
};

class Server {
 public:
  // Listens when it returns.  kUnavailable says which address cannot be bound, and why; otherwise
  // the errors of Security::Make.
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options);

  // Stops at once: streams that are open break.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Where it listens, with the port it got.
  const std::string& address() const { return address_; }
  int port() const { return port_; }  // 0 for a unix socket

  // What there is now.  Not after Drain.
  Snapshot snapshot() const;
  // How it is protected, and whom it refused.  Not after Drain.
  SecurityState security() const;

  // Writes a report on all groups to the dump_dir, or to stderr without one, soon.  Not after
  // Drain.
  void Dump(const std::string& why);

  // Tells all workers, lets open rounds finish for at most `grace`, closes all streams, and stops.
  // Returns whether every worker was told the end before the server stopped.
  bool Drain(absl::Duration grace);

 private:
  struct Running;

  Server();
  void Stop();

  std::string address_;
  int port_ = 0;
  std::unique_ptr<Running> running_;  // null once stopped
};

}  // namespace syncnorm::server
