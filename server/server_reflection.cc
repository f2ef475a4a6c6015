#include "server/server_reflection.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>

namespace syncnorm::server {

void OfferReflection() { grpc::reflection::InitProtoReflectionServerBuilderPlugin(); }

}  // namespace syncnorm::server
