// From the core's plain Report to what leaves the process: the bytes of a
// ReportReply (admin.proto), and its JSON.
//
// Thread-safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <string>

#include "server/report.h"

namespace syncnorm::server {

std::string ToBytes(const Report& report);
std::string ToJson(const Report& report);

// About the size of ToBytes, without making it.
uint64_t ApproximateBytes(const Report::Group& group);

}  // namespace syncnorm::server
