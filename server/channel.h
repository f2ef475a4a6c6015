// How the coordinator's process and its connections are set up.  Each setting was measured, or
// closes a hole.
//
// Thread-safety: PrepareProcess before gRPC is used by another thread.
#pragma once

#include <grpcpp/grpcpp.h>

#include "server/limits.h"

namespace syncnorm::server {

// Process-wide settings; before any use of gRPC.  Settings that the user made
// in the environment are kept.
void PrepareProcess();

// The arguments of every connection of the server.
void Configure(const Limits& limits, grpc::ServerBuilder* builder);

}  // namespace syncnorm::server
