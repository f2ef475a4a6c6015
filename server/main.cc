// syncnorm-coordinator: one server, from its configuration to the signal that ends it.

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/clock.h"
#include "server/admin.h"
#include "server/configuration.h"
#include "server/listen_address.h"
#include "server/log.h"
#include "server/log_line.h"
#include "server/port_file.h"
#include "server/server.h"
#include "server/server_log.h"
#include "server/server_reflection.h"
#include "server/usage.h"

namespace {

using syncnorm::server::Admin;
using syncnorm::server::Configuration;
using syncnorm::server::ListenAddress;
using syncnorm::server::Log;
using syncnorm::server::LogFormat;
using syncnorm::server::LogLevel;
using syncnorm::server::Options;
using syncnorm::server::Server;
using syncnorm::server::ServerOptions;

// For what reads stderr to take what the end has to say.
constexpr absl::Duration kLogGrace = absl::Seconds(1);

int Print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : 1;
}

int Die(const absl::Status& status) {
  // One line, whatever a value is made of.
  const std::string line = syncnorm::server::TextLine(std::string(status.message()));
  std::fprintf(stderr, "syncnorm-coordinator: %s\n", line.c_str());
  return 1;
}

// The same, once it is known how the log is to look: lines in JSON are all of them in JSON.
int Die(const absl::Status& status, const Options& options) {
  if (options.log_format == LogFormat::kText) return Die(status);
  syncnorm::server::SetLogLevel(LogLevel::kError);
  Log(LogLevel::kError, std::string(status.message()));
  return 1;
}

// Blocked here before any thread is made, so that all inherit it and only this one waits for them.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) sigaddset(&signals, signal);
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

void ReadAgain(const Configuration& started) {
  const absl::StatusOr<Configuration> now = started.Again();
  if (!now.ok()) {
    Log(LogLevel::kWarning,
        absl::StrCat("SIGHUP: the configuration stays as it is: ", now.status().message()));
    return;
  }
  const LogLevel level = now->options().log_level;
  syncnorm::server::SetLogLevel(level);
  Log(LogLevel::kInfo, absl::StrCat("SIGHUP: log_level is ", syncnorm::server::Name(level)));
  std::vector<std::string> others = started.Differences(*now);
  std::erase(others, "log_level");
  if (others.empty()) return;
  Log(LogLevel::kWarning, absl::StrCat("SIGHUP: changed as well, which takes a restart: ",
                                       absl::StrJoin(others, ", ")));
}

int Serve(const Configuration& configuration, const sigset_t& signals) {
  const Options& options = configuration.options();
  // Before anything listens: what is wrong is the one thing that is said.
  if (options.server.admin.has_value()) {
    const absl::Status free = TryToBind(*options.server.admin);
    if (!free.ok()) return Die(free, options);
  }
  syncnorm::server::OfferReflection();
  ServerOptions server_options = options.server;
  server_options.on_drain_request = [] { kill(getpid(), SIGTERM); };
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(std::move(server_options));
  if (!server.ok()) return Die(server.status(), options);
  if (!options.port_file.empty()) {
    const absl::Status written =
        syncnorm::server::WritePortFile(options.port_file, (*server)->port());
    if (!written.ok()) return Die(written, options);
  }
  std::unique_ptr<Admin> admin;
  if (options.server.admin.has_value()) {
    absl::StatusOr<std::unique_ptr<Admin>> started =
        StartAdmin(*options.server.admin, server->get());
    if (!started.ok()) return Die(started.status(), options);
    admin = *std::move(started);
  }
  std::printf("listening on %s\n", (*server)->address().c_str());
  if (admin != nullptr) std::printf("status page on http://%s/statusz\n", admin->address().c_str());
  std::fflush(stdout);

  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && (signal == SIGUSR1 || signal == SIGHUP)) {
    if (signal == SIGUSR1) (*server)->Dump("SIGUSR1");
    if (signal == SIGHUP) ReadAgain(configuration);
  }
  Log(LogLevel::kInfo, absl::StrCat(strsignal(signal), ": draining"));
  // A second signal ends the process as usual, unless it only asks.
  sigset_t ending = signals;
  sigdelset(&ending, SIGUSR1);
  sigdelset(&ending, SIGHUP);
  pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);
  const bool drained = (*server)->Drain(options.drain_grace);
  Log(LogLevel::kInfo, drained ? "drained" : "stopped; some workers were not told");
  return 0;
}

std::vector<std::string> Texts(char** from, char** to) { return {from, to}; }

std::vector<std::string> Environment() {
  char** end = environ;
  while (*end != nullptr) ++end;
  return Texts(environ, end);
}

bool Has(const std::vector<std::string>& arguments, std::initializer_list<const char*> wanted) {
  return std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
    return std::find(wanted.begin(), wanted.end(), argument) != wanted.end();
  });
}

}  // namespace

int main(int argc, char** argv) {
  const sigset_t signals = BlockSignals();
  const std::vector<std::string> arguments = Texts(argv + 1, argv + argc);
  if (Has(arguments, {"--help", "-help", "-h"})) return Print(syncnorm::server::HelpText());
  if (Has(arguments, {"--version", "-version"})) return Print(syncnorm::server::VersionText());

  const auto configuration = Configuration::Make(arguments, Environment());
  if (!configuration.ok()) return Die(configuration.status());
  const Options& options = configuration->options();
  if (options.print_config) return Print(configuration->ToYaml());
  if (options.check_config) {
    const absl::Status status = configuration->CheckFiles();
    return status.ok() ? Print("ok\n") : Die(status);
  }
  syncnorm::server::SetLogFormat(options.log_format);
  syncnorm::server::SetLogLevel(options.log_level);
  syncnorm::server::TakeGrpcLog();
  syncnorm::server::StartLogThread();
  const int status = Serve(*configuration, signals);
  syncnorm::server::FlushLog(kLogGrace);
  return status;
}
