// The JSON form of the messages of admin.proto: one for the files that the
// coordinator writes and for what syncnormctl prints, so that they agree.
//
// Thread-safety: may be called concurrently.
#pragma once

#include <google/protobuf/message.h>

#include <string>

namespace syncnorm {

// Protobuf's own form, indented, with the names of the .proto and with zeros written out, ending
// with a newline.
std::string AdminJson(const google::protobuf::Message& message);

}  // namespace syncnorm
