// The coordinator inside a worker's process; the contract is in the header.

#include <syncnorm/embedded.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/log.h"
#include "server/server.h"

namespace syncnorm {
namespace {

// For the last results to reach the other workers; rank 0 itself is at its end.
constexpr absl::Duration kGrace = absl::Seconds(5);

class Embedded final : public CoordinatorHandle {
 public:
  explicit Embedded(std::unique_ptr<server::Server> server) : server_(std::move(server)) {}
  ~Embedded() override { server_->Drain(kGrace); }
  std::string address() const override { return server_->address(); }

 private:
  std::unique_ptr<server::Server> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CoordinatorHandle>> StartEmbeddedCoordinator(
    const std::string& address) {
  absl::StatusOr<server::ListenAddress> listen = server::ListenAddress::Parse(address);
  if (!listen.ok()) return listen.status();
  if (!listen->local()) {
    server::Log(server::LogLevel::kWarning,
                absl::StrCat("the coordinator listens on ", address,
                             " in plaintext: who reaches it can read and change the statistics"));
  }
  server::ServerOptions options;
  options.listen = *std::move(listen);
  absl::StatusOr<std::unique_ptr<server::Server>> server = server::Server::Start(options);
  if (!server.ok()) return server.status();
  return std::make_unique<Embedded>(*std::move(server));
}

}  // namespace syncnorm
