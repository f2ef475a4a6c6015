// The loop of a measuring program: protocol.h.
//
// Thread-safety: none; one thread calls it.
#pragma once

#include <functional>

#include "bench/gpu/device.h"
#include "bench/gpu/protocol.h"
#include "nlohmann/json.hpp"

namespace syncnorm::bench::gpu {

// Greets on stdout and answers the requests of stdin with `measure`; returns the exit status.
int Serve(const std::function<nlohmann::json(const Case& c, const Device& device)>& measure);

}  // namespace syncnorm::bench::gpu
