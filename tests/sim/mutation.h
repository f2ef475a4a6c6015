// Mutation: a bug planted on purpose, at the shells' side of the production code, to show that
// the simulator finds such bugs (mutation_test.cc).
//
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace syncnorm::sim {

enum class Mutation : uint8_t {
  kNone,
  kFoldByArrival,     // the coordinator folds in the order in which contributions come
  kCountTwice,        // a contribution that comes again is added again
  kBitFlip,           // one member gets a result that differs in one bit
  kLostAnswer,        // an answer is not sent, now and then
  kNoTicks,           // the coordinator never looks at its clock
  kIgnoreFencing,     // it takes a superseded process for the one that holds the rank
  kForgetRestored,    // a worker that resumes brings no answers along
  kNeverSettled,      // results never say what is settled: answers are kept for ever
  kUnnamedFailure,    // failures say "failed"
  kReplayNothing,     // a worker that resumes does not send its contributions again
  kReplayRenumbered,  // it sends one of them under the next number
  kStaleState,        // a late worker is handed the state of one round ago
};

struct MutationName {
  Mutation mutation;
  std::string_view name;
};
const std::vector<MutationName>& Mutations();
std::string_view Name(Mutation mutation);
std::optional<Mutation> FindMutation(std::string_view name);

}  // namespace syncnorm::sim
