// Layer states and their bytes (state.proto).
//
// Encoding is deterministic: equal states give equal bytes.  Decoding refuses, with
// kInvalidArgument and a text that says what was wrong, bytes that are not the
// message and two entries of one name; NaN and infinities are carried as they are.
//
// Thread-safety: pure functions.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace syncnorm::wire {

using LayerState = std::map<std::string, std::vector<double>>;

std::string EncodeLayerState(const LayerState& state);
absl::StatusOr<LayerState> DecodeLayerState(std::string_view bytes);

}  // namespace syncnorm::wire
