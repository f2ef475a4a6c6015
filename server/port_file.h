// Writes the port that a server got for those who started it with port 0.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace syncnorm::server {

// The port and a newline, under a temporary name that is then renamed: whoever sees the file sees
// all of it.  kUnavailable names the file and the reason.
absl::Status WritePortFile(const std::string& path, int port);
// Whether its folder is there and may be written to; kUnavailable as above.
absl::Status CheckPortFile(const std::string& path);

}  // namespace syncnorm::server
