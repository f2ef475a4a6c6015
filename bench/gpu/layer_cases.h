// A case's layers, as a trainer calls them: what a call takes, and what its round adds.
//
// A step is kLayers forwards and then as many backwards, in one stream, as a network of that many
// such layers has them.  Three lanes:
//
//   local                      one worker without a group: beside PyTorch's native batch norm
//   two workers, local         two at the same time on the one device, without a group
//   two workers, synchronised  the same two in a group, whose coordinator is in the process
//
// The last less the one before is the cost of the rounds.
//
// Thread-safety: none; one thread calls it.
#pragma once

#include "bench/gpu/device.h"
#include "bench/gpu/protocol.h"
#include "nlohmann/json.hpp"

namespace syncnorm::bench::gpu {

// Enough for the CPU to be ahead of the stream; a round's latency is not hidden by more of them.
inline constexpr int kLayers = 8;

// The protocol's answer; times are those of one layer.  Throws CudaError.
nlohmann::json MeasureLayers(const Case& c, const Device& device);

}  // namespace syncnorm::bench::gpu
