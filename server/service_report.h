// From plain values to what leaves the process: the bytes of the replies of
// admin.proto, and their JSON.
//
// Thread-safety: may be called concurrently.
#pragma once

#include <cstdint>
#include <string>

#include "server/report.h"
#include "server/vitals.h"

namespace syncnorm::server {

std::string ToBytes(const Report& report);
std::string ToBytes(const Status& status);
std::string ToBytes(const Vitals& vitals);
std::string ToJson(const Report& report);
std::string ToJson(const Vitals& vitals);

// About the size of ToBytes, without making it.
uint64_t ApproximateBytes(const Report::Group& group);

}  // namespace syncnorm::server
