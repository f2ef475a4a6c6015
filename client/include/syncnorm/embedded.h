// A coordinator inside the process of rank 0, for jobs that want no server.
// In a library of its own (CMake target syncnorm::embedded), so that a worker that does not
// want it does not link the server.
#pragma once

#include <syncnorm/group.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace syncnorm {

// Starts a coordinator listening on `address` ("host:port"; port 0 picks one).
// kUnavailable names the address when it cannot be bound.
absl::StatusOr<std::unique_ptr<CoordinatorHandle>> StartEmbeddedCoordinator(
    const std::string& address);

}  // namespace syncnorm
