// How both ends set up gRPC, so that a round costs one packet, one read and one wake-up each way.
// Measured on gRPC 1.51 (docs/decisions/0002); what only one end needs stands with it.
//
// Thread-safety: PrepareGrpcProcess may be called concurrently, before the process first uses gRPC.
#pragma once

#include <utility>

#include "absl/types/span.h"

namespace syncnorm {

// Process-wide settings.  Those that the user made in the environment are kept.
void PrepareGrpcProcess();

// Channel arguments, name and value, for a client's channel and for a server.
absl::Span<const std::pair<const char*, int>> MessageArguments();

}  // namespace syncnorm
