// What the coordinator's program says of itself.
//
// Thread-safety: may be called concurrently.
#pragma once

#include <string>

namespace syncnorm::server {

// --help and --version; whole lines.
std::string HelpText();
std::string VersionText();

}  // namespace syncnorm::server
