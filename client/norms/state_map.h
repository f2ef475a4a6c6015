// Checks of the maps that the norms' LoadState and Load get.
//
// Errors are kInvalidArgument and name the entry, what it was and what it must be.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace syncnorm::norms {

using StateMap = std::map<std::string, std::vector<double>>;

struct StateEntry {
  const char* name;
  int64_t size;
  bool counter = false;  // must be a whole number in [0, 2^53]
};

// Whether `state` has exactly the entries of `expected`.
absl::Status CheckState(const StateMap& state, absl::Span<const StateEntry> expected);

// Takes the counter `name` out of `state`.
absl::Status TakeCounter(const char* name, StateMap* state, uint64_t* value);

}  // namespace syncnorm::norms
