#include "server/server.h"

#include <grpc/support/time.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "proto/clock.h"
#include "proto/grpc_settings.h"
#include "server/channel.h"
#include "server/credentials.h"
#include "server/dump_files.h"
#include "server/service.h"

namespace syncnorm::server {
namespace {

// Beyond the grace, for the last messages to be taken by workers that still read.
constexpr absl::Duration kCloseGrace = absl::Seconds(1);

// Of the service's thread, which looks around every second.
constexpr absl::Duration kPatience = absl::Seconds(5);

uint64_t RandomId() {
  std::random_device random;
  return (uint64_t{random()} << 32 | random()) | 1;  // never 0
}

}  // namespace

struct Server::Running {
  Running(const ServerOptions& options, std::unique_ptr<Security> protection)
      : security(std::move(protection)),
        credentials(MakeCredentials(security->certificates())),
        service(options.settings,
                {.dump_dir = options.dump_dir, .on_drain = options.on_drain_request},
                &MonotonicClock(), security.get(), &WallClock()) {}

  const std::unique_ptr<Security> security;
  const std::shared_ptr<grpc::ServerCredentials> credentials;
  Service service;
  std::unique_ptr<grpc::Server> grpc;
  std::thread loop;
  std::atomic<bool> draining = false;
};

Server::Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options) {
  PrepareGrpcProcess();
  // A socket's path that is in use would be taken over without a word.
  if (options.listen.is_unix()) {
    if (absl::Status status = TryToBind(options.listen); !status.ok()) return status;
  }
  if (!options.dump_dir.empty()) {
    if (absl::Status status = DumpFiles::Check(options.dump_dir); !status.ok()) return status;
  }
  if (options.settings.coordinator_id == 0) options.settings.coordinator_id = RandomId();
  options.settings.report_incidents = !options.dump_dir.empty();

  absl::StatusOr<std::unique_ptr<Security>> security =
      Security::Make(options.listen, options.security, &WallClock());
  if (!security.ok()) return security.status();

  auto server = std::unique_ptr<Server>(new Server);
  auto running = std::make_unique<Running>(options, *std::move(security));
  grpc::ServerBuilder builder;
  Configure(options.settings, &builder);
  if (!options.reflection) LeaveOutReflection(&builder);
  int port = 0;
  builder.AddListeningPort(options.listen.With(options.listen.port), running->credentials, &port);
  running->service.AddTo(&builder);
  running->grpc = builder.BuildAndStart();
  if (running->grpc == nullptr) {
    if (absl::Status status = TryToBind(options.listen); !status.ok()) return status;
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.listen.With(options.listen.port)));
  }
  server->port_ = options.listen.is_unix() ? 0 : port;
  server->address_ = options.listen.With(port);
  running->loop = std::thread([service = &running->service] { service->Run(); });
  running->security->WarnIfExposed(server->address_);
  running->security->StartReloading();
  server->running_ = std::move(running);
  return server;
}

Server::~Server() {
  if (running_ == nullptr) return;
  // Cancels what is left; the loop has to run meanwhile to see it off.
  running_->grpc->Shutdown(gpr_now(GPR_CLOCK_REALTIME));
  running_->service.Stop();
  running_->loop.join();
}

Snapshot Server::snapshot() const { return running_->service.snapshot(); }

SecurityState Server::security() const { return running_->security->state(); }

absl::StatusOr<std::shared_ptr<const Vitals>> Server::vitals(const std::string& group,
                                                             bool timeline) {
  // Shared: an answer that comes too late finds it still there.
  struct Asked {
    absl::Notification answered;
    absl::StatusOr<std::shared_ptr<const Vitals>> vitals = absl::UnknownError("");
  };
  const auto asked = std::make_shared<Asked>();
  running_->service.CollectVitals(group, timeline,
                                  [asked](absl::StatusOr<std::shared_ptr<const Vitals>> vitals) {
                                    asked->vitals = std::move(vitals);
                                    asked->answered.Notify();
                                  });
  if (asked->answered.WaitForNotificationWithTimeout(kPatience)) return asked->vitals;
  return absl::DeadlineExceededError(
      absl::StrCat("the coordinator did not answer within ", absl::FormatDuration(kPatience)));
}

bool Server::alive() const {
  return MonotonicClock().Now() - running_->service.ticked() < kPatience;
}

bool Server::ready() const { return !running_->draining.load(); }

void Server::Dump(const std::string& why) { running_->service.Dump(why); }

bool Server::Drain(absl::Duration grace) {
  running_->draining.store(true);
  running_->service.Drain(grace);
  return running_->service.WaitUntilDrained(grace + kCloseGrace);
}

}  // namespace syncnorm::server
