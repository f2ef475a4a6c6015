// Failure: why a round, or a membership, came to its end, with every name a
// person needs.  Travels as the payload of an absl::Status, whose code and
// message say the same.
//
// Thread-safety: plain values.
#pragma once

#include <syncnorm/round_key.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace syncnorm {

struct Failure {
  absl::StatusCode code = absl::StatusCode::kAborted;
  RoundKey key;      // key.round == 0: the whole membership
  std::string text;  // one sentence
  std::string group;
  std::vector<uint32_t> ranks;     // at fault, or missing; increasing
  std::vector<std::string> hosts;  // of each of `ranks`, "" where not known

  friend bool operator==(const Failure&, const Failure&) = default;
};

// A status with the failure's code and text, and the rest of it as its payload, which
// status.ToString(absl::StatusToStringMode::kWithNoExtraData) leaves out.
absl::Status ToStatus(const Failure& failure);
// The failure that a status carries, if it carries one.
std::optional<Failure> FailureOf(const absl::Status& status);

}  // namespace syncnorm
