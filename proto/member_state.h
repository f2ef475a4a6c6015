// The state of a member as a whole and its bytes (state.proto): what it hands over
// to one that joins late.
//
// Encoding is deterministic.  Decoding refuses, with kInvalidArgument, bytes that are
// not the message and two layers of one name.
//
// Thread-safety: plain values, pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace syncnorm::wire {

struct MemberState {
  std::map<std::string, std::string> layers;  // by name: the bytes of a LayerState
  std::string trainer;
  uint64_t boundaries = 0;
};

std::string EncodeMemberState(const MemberState& state);
absl::StatusOr<MemberState> DecodeMemberState(std::string_view bytes);

}  // namespace syncnorm::wire
