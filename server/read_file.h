// Reads a small file of an operator, whole.
//
// Thread-safety: may be called concurrently.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"

namespace syncnorm::server {

// Errors name the file: kNotFound says why it cannot be read; kInvalidArgument: longer than
// `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes);

}  // namespace syncnorm::server
