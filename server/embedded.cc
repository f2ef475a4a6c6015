// The coordinator inside a worker's process; the contract is in the header.

#include <syncnorm/embedded.h>

#include <utility>

#include "absl/strings/str_cat.h"
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

absl::StatusOr<std::unique_ptr<CoordinatorHandle>> Start(const std::string& address,
                                                         const EmbeddedOptions& embedded) {
  absl::StatusOr<server::ListenAddress> listen = server::ListenAddress::Parse(address);
  if (!listen.ok()) return listen.status();
  server::ServerOptions options;
  options.listen = *std::move(listen);
  options.security.tls = {embedded.cert_file, embedded.key_file, embedded.client_ca_file};
  options.security.tokens = embedded.tokens_file;
  options.security.insecure = embedded.insecure;
  if (server::Exposed(options.listen, options.security) && !embedded.insecure) {
    return absl::InvalidArgumentError(absl::StrCat(
        "other machines can reach ", address,
        ", so the coordinator there needs TLS: use EmbeddedCoordinator with certificates, or with "
        "insecure = true if plaintext is meant"));
  }
  absl::StatusOr<std::unique_ptr<server::Server>> server =
      server::Server::Start(std::move(options));
  if (!server.ok()) return server.status();
  return std::make_unique<Embedded>(*std::move(server));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CoordinatorHandle>> StartEmbeddedCoordinator(
    const std::string& address) {
  return Start(address, EmbeddedOptions());
}

std::function<absl::StatusOr<std::unique_ptr<CoordinatorHandle>>(const std::string& address)>
EmbeddedCoordinator(EmbeddedOptions options) {
  return [options = std::move(options)](const std::string& address) {
    return Start(address, options);
  };
}

}  // namespace syncnorm
