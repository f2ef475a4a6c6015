// Server: a coordinator that listens: the gRPC server, the Service and its
// thread, from start to stop.  Any number in one process, one after the
// other or together.
//
//   Start ----> serving ---- Drain ----> draining ----> drained
//                  |                        |              |
//                  +------------------------+--------------+----> ~Server
//
// Thread-safety: thread-compatible, but for what says otherwise.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/coordinator.h"
#include "server/listen_address.h"
#include "server/security.h"
#include "server/vitals.h"

namespace syncnorm::server {

struct ServerOptions {
  ListenAddress listen;  // port 0 picks one
  Settings settings;     // coordinator_id 0 picks one
  // For reports of failures: a directory that is there and may be written to.  Empty: none are
  // written.
  std::string dump_dir;
  SecurityOptions security;
  // Of the admin port, plain HTTP; none: there is none.  For the program, which starts it
  // (admin.h).
  std::optional<ListenAddress> admin;
  bool reflection = false;  // answer gRPC's reflection service, if the program offers it
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

  // What there is now.
  Snapshot snapshot() const;
  // How it is protected, and whom it refused.
  SecurityState security() const;
  // All that is to be watched, of the groups of that name, or all for "".  kNotFound: there is no
  // group of that name;  kDeadlineExceeded: the service's thread does not go round.  From any
  // thread.
  absl::StatusOr<std::shared_ptr<const Vitals>> vitals(const std::string& group, bool timeline);
  // Whether the service's thread goes round, as it does however long a round waits; from any
  // thread.
  bool alive() const;
  // Whether it takes workers in: until Drain; from any thread.
  bool ready() const;

  // Writes a report on all groups to the dump_dir, or to stderr without one, soon.
  void Dump(const std::string& why);

  // Tells all workers, lets open rounds finish for at most `grace`, and closes all streams.
  // Returns whether every worker was told the end within that and a little more.  No worker is
  // taken in any more; calls about the coordinator are answered until it is destroyed.  Once.
  bool Drain(absl::Duration grace);

 private:
  struct Running;

  Server();

  std::string address_;
  int port_ = 0;
  std::unique_ptr<Running> running_;
};

}  // namespace syncnorm::server
