#include "server/ctl_channel.h"

#include <fstream>

#include "absl/strings/str_cat.h"
#include "server/listen_address.h"

namespace syncnorm::server {

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeCtlChannel(const CtlOptions& options) {
  grpc::ChannelArguments arguments;
  // Reports exceed the default of 4 MiB; the coordinator bounds them.
  arguments.SetMaxReceiveMessageSize(-1);
  // A proxy of the environment is for the web.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A new channel tries at once, whatever became of the last one.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (options.tls.authorities.empty()) {
    return grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(),
                                     arguments);
  }
  const absl::StatusOr<TlsTexts> texts = ReadTls(options.tls);
  if (!texts.ok()) return texts.status();
  if (!options.server_name.empty()) arguments.SetSslTargetNameOverride(options.server_name);
  return grpc::CreateCustomChannel(
      options.address, grpc::SslCredentials({texts->authorities, texts->key, texts->certificate}),
      arguments);
}

absl::Status Present(const CtlOptions& options, grpc::ClientContext* context) {
  if (options.token_file.empty()) return absl::OkStatus();
  if (options.tls.authorities.empty() && !options.insecure) {
    const absl::StatusOr<ListenAddress> address = ListenAddress::Parse(options.address);
    if (!address.ok() || !address->local()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the token would travel in plaintext to ", options.address,
                       "; give --tls_dir, or --insecure if that is meant"));
    }
  }
  std::ifstream file(options.token_file);
  std::string token, more;
  if (!(file >> token) || file >> more) {
    return absl::NotFoundError(
        absl::StrCat("--token_file=", options.token_file, " does not hold one token"));
  }
  context->AddMetadata("authorization", absl::StrCat("Bearer ", token));
  return absl::OkStatus();
}

}  // namespace syncnorm::server
