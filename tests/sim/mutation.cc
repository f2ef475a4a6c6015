#include "tests/sim/mutation.h"

namespace syncnorm::sim {

const std::vector<MutationName>& Mutations() {
  static const auto* const mutations = new std::vector<MutationName>{
      {Mutation::kFoldByArrival, "fold_by_arrival"},
      {Mutation::kCountTwice, "count_twice"},
      {Mutation::kBitFlip, "bit_flip"},
      {Mutation::kLostAnswer, "lost_answer"},
      {Mutation::kNoTicks, "no_ticks"},
      {Mutation::kIgnoreFencing, "ignore_fencing"},
      {Mutation::kForgetRestored, "forget_restored"},
      {Mutation::kNeverSettled, "never_settled"},
      {Mutation::kUnnamedFailure, "unnamed_failure"},
      {Mutation::kReplayNothing, "replay_nothing"},
      {Mutation::kReplayRenumbered, "replay_renumbered"},
      {Mutation::kStaleState, "stale_state"},
  };
  return *mutations;
}

std::string_view Name(Mutation mutation) {
  for (const MutationName& known : Mutations()) {
    if (known.mutation == mutation) return known.name;
  }
  return "none";
}

std::optional<Mutation> FindMutation(std::string_view name) {
  for (const MutationName& known : Mutations()) {
    if (known.name == name) return known.mutation;
  }
  return std::nullopt;
}

}  // namespace syncnorm::sim
