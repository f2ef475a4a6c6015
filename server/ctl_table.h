// What syncnormctl prints: reports and counters as tables for people.
//
// Thread-safety: may be called concurrently.
#pragma once

#include <string>

#include "syncnorm/v1/admin.pb.h"

namespace syncnorm::server {

// Of each group: its ranks, those that were last most often first; the layers whose rounds
// waited the longest; open rounds with who is missing; the latest rounds that failed.
std::string Table(const v1::ReportReply& report);

std::string Table(const v1::StatusReply& status);

}  // namespace syncnorm::server
