#include "server/ctl_channel.h"

namespace syncnorm::server {

std::shared_ptr<grpc::Channel> MakeCtlChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  // Reports exceed the default of 4 MiB; the coordinator bounds them.
  arguments.SetMaxReceiveMessageSize(-1);
  // A proxy of the environment is for the web.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace syncnorm::server
