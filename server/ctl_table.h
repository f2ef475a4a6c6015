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

// Of the coordinator as a whole: a number a line, and how it is protected.
std::string Table(const v1::VitalsReply& vitals);

// A line a group.
std::string GroupsTable(const v1::VitalsReply& vitals);

// The rounds that ended, a line each, and the failures' texts.
std::string RingTable(const v1::ReportReply& report);

}  // namespace syncnorm::server
