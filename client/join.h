// Joining: from an address to a session whose members are all there.
//
// A coordinator that is not there yet, or is going down, is tried again until the deadline; every
// other answer ends the attempt.  One that has taken the Join is tried again as fast as by a member
// that comes back: the stream may have broken as the group formed.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/session.h"
#include "client/transport.h"
#include "proto/clock.h"

namespace syncnorm {

// Blocks until all members have joined, at most join.join_timeout and then
// Session::kAnswerSlack.  Afterwards no Read and no Write is outstanding.  Errors:
// those of Group::Connect.
absl::StatusOr<std::unique_ptr<Session>> JoinGroup(const std::string& address,
                                                   const wire::Join& join, Clock* clock,
                                                   Transport* transport);

}  // namespace syncnorm
