// What follows a Finish: the members that ended their data earlier lack the steps of the others, so
// all take the states of the one that went on longest (of several, the lowest rank).  By rounds of
// the group, in which all others contribute zeros: first who that is, then the bytes.
//
// Callers may rely on: where all ended at the same round, that is one round and nothing is saved.
//
// Thread-safety: a pure function.
#pragma once

#include <syncnorm/moments.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm {

struct FinishExchange {
  int rank = -1;
  int world_size = 0;
  uint64_t last_round = 0;  // that this member contributed to
  uint64_t max_values = 0;  // of one message
  // A round; `step` counts those of one exchange.
  std::function<absl::StatusOr<Moments>(uint64_t step, const Moments& moments)> reduce;
  // This member's state; called on every member, since it also collects what is under way.
  std::function<absl::StatusOr<std::string>()> save;
  std::function<absl::Status(std::string_view state)> load;  // not called where it was saved
};

// Failures of the rounds, of `load`, and on every member kAborted where the one member's `save`
// failed (there: with what).
absl::Status Exchange(const FinishExchange& exchange);

}  // namespace syncnorm
