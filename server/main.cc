// syncnorm-coordinator: one server, from the command line to the signal that ends it.

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/clock.h"
#include "server/admin.h"
#include "server/listen_address.h"
#include "server/log.h"
#include "server/options.h"
#include "server/port_file.h"
#include "server/server.h"
#include "server/server_log.h"

namespace {

using syncnorm::server::Admin;
using syncnorm::server::ListenAddress;
using syncnorm::server::Log;
using syncnorm::server::LogLevel;
using syncnorm::server::Options;
using syncnorm::server::Server;
using syncnorm::server::ServerOptions;

int Die(const absl::Status& status) {
  std::fprintf(stderr, "syncnorm-coordinator: %s\n", std::string(status.message()).c_str());
  return 1;
}

// Blocked here before any thread is made, so that all inherit it and only this one waits for them.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a pipe of the log that broke is no reason to end
  return signals;
}

absl::StatusOr<std::unique_ptr<Admin>> StartAdmin(const ListenAddress& listen, Server* server) {
  return Admin::Start(listen, {&syncnorm::MonotonicClock(), [server] { return server->alive(); },
                               [server] { return server->ready(); },
                               [server](const std::string& group, bool timeline) {
                                 return server->vitals(group, timeline);
                               }});
}

int Serve(const Options& options, const sigset_t& signals) {
  ServerOptions server_options = options.server;
  server_options.on_drain_request = [] { kill(getpid(), SIGTERM); };
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(std::move(server_options));
  if (!server.ok()) return Die(server.status());
  if (!options.port_file.empty()) {
    const absl::Status written =
        syncnorm::server::WritePortFile(options.port_file, (*server)->port());
    if (!written.ok()) return Die(written);
  }
  std::unique_ptr<Admin> admin;
  if (options.server.admin.has_value()) {
    absl::StatusOr<std::unique_ptr<Admin>> started =
        StartAdmin(*options.server.admin, server->get());
    if (!started.ok()) return Die(started.status());
    admin = *std::move(started);
  }
  std::printf("listening on %s\n", (*server)->address().c_str());
  if (admin != nullptr) std::printf("status page on http://%s/statusz\n", admin->address().c_str());
  std::fflush(stdout);

  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal == SIGUSR1) (*server)->Dump("SIGUSR1");
  Log(LogLevel::kInfo, absl::StrCat(strsignal(signal), ": draining"));
  // A second signal ends the process as usual, unless it only asks.
  sigset_t ending = signals;
  sigdelset(&ending, SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);
  const bool drained = (*server)->Drain(options.drain_grace);
  Log(LogLevel::kInfo, drained ? "drained" : "stopped; some workers were not told");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const sigset_t signals = BlockSignals();
  absl::StatusOr<Options> options = syncnorm::server::ParseOptions(argc, argv);
  if (!options.ok()) return Die(options.status());
  syncnorm::server::SetLogLevel(options->log_level);
  syncnorm::server::TakeGrpcLog();
  return Serve(*options, signals);
}
