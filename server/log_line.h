// What follows time and level in a line of the log.
//
// Callers may rely on:
//   * It has no control character, whatever bytes the texts are made of, and a bounded length.
//   * JsonFields is what stands between the braces of a JSON object, in ASCII; bytes that are not
//     UTF-8 have become U+FFFD.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <string>

#include "server/subject.h"

namespace syncnorm::server {

std::string TextLine(const std::string& text);
// "msg", and what is known of the subject: "group", "epoch", "round", "layer", "direction", "step",
// "ranks" (and "ranks_count", where there are more than 16), "peer".
std::string JsonFields(const std::string& text, const Subject& subject);

}  // namespace syncnorm::server
