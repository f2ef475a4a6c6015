// A coordinator inside the process of rank 0, for jobs that want no server.
// In a library of its own (CMake target syncnorm::embedded), so that a worker that does not
// want it does not link the server.
//
//   options.coordinator_factory = syncnorm::StartEmbeddedCoordinator;     // on this machine
//   options.coordinator_factory = syncnorm::EmbeddedCoordinator({...});   // for other machines
#pragma once

#include <syncnorm/group.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace syncnorm {

// How it is protected.  On an address that other machines can reach it needs TLS, or `insecure`.
struct EmbeddedOptions {
  // Its certificate, key and the authorities of the workers' certificates: PEM files, all three or
  // none.  They are read again when they change.
  std::string cert_file;
  std::string key_file;
  std::string client_ca_file;
  // File of digests of tokens (docs/security.md); empty: no token is asked for.
  std::string tokens_file;
  // Plaintext is meant, also where other machines can reach it: told in the log as a warning.
  bool insecure = false;
};

// Starts a coordinator listening on `address` ("host:port"; port 0 picks one).
// kUnavailable names the address when it cannot be bound.  kInvalidArgument: other machines can
// reach it, so that it needs EmbeddedOptions.
absl::StatusOr<std::unique_ptr<CoordinatorHandle>> StartEmbeddedCoordinator(
    const std::string& address);

// The same, with options.  Errors also name the file that cannot be used, and why.
std::function<absl::StatusOr<std::unique_ptr<CoordinatorHandle>>(const std::string& address)>
EmbeddedCoordinator(EmbeddedOptions options);

}  // namespace syncnorm
