// How the coordinator's connections are set up, beyond what both ends share
// (proto/grpc_settings.h).  Each setting was measured, or closes a hole.
#pragma once

#include <grpcpp/grpcpp.h>

#include "server/coordinator.h"

namespace syncnorm::server {

// The arguments of every connection of the server.
void Configure(const Settings& settings, grpc::ServerBuilder* builder);

// A process that links gRPC's reflection service has it in every server: not in this one.
void LeaveOutReflection(grpc::ServerBuilder* builder);

}  // namespace syncnorm::server
