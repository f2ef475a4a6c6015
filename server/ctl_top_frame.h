// What syncnormctl top shows: one frame of what a coordinator told.
//
// Callers may rely on:
//   * A frame has at most `height` lines of at most `width` characters.  What has no room is
//   counted
//     in its place: groups first, then who is late, then open rounds and failures.
//   * The figures are those of VitalsReply, which are those of the metrics.
//   * No escape codes, and nothing that a peer chose steers a terminal.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <cstddef>
#include <limits>
#include <string>

#include "syncnorm/v1/admin.pb.h"

namespace syncnorm::server {

struct FrameSize {
  size_t width = std::numeric_limits<size_t>::max();
  size_t height = std::numeric_limits<size_t>::max();
};

// Lines, each ended by a newline.
std::string TopFrame(const std::string& address, const v1::VitalsReply& vitals,
                     const FrameSize& size);

// In its place, when the coordinator did not answer.
std::string TopFrameWithout(const std::string& why, double tries_again_s, const FrameSize& size);

}  // namespace syncnorm::server
