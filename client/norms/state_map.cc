#include "client/norms/state_map.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace syncnorm::norms {
namespace {

constexpr double kLargestCounter = 0x1p53;  // beyond it a double skips whole numbers

absl::Status CheckEntry(const StateMap& state, const StateEntry& entry) {
  const auto found = state.find(entry.name);
  if (found == state.end()) {
    return absl::InvalidArgumentError(absl::StrCat("the state lacks ", entry.name));
  }
  const std::vector<double>& values = found->second;
  if (static_cast<int64_t>(values.size()) != entry.size) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the state's ", entry.name, " has ", values.size(), " values; it must have ", entry.size));
  }
  if (entry.counter &&
      !(values[0] >= 0 && values[0] <= kLargestCounter && values[0] == std::floor(values[0]))) {
    return absl::InvalidArgumentError(absl::StrCat("the state's ", entry.name, " is ", values[0],
                                                   "; it must be a whole number, 0 or more"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckState(const StateMap& state, absl::Span<const StateEntry> expected) {
  std::vector<std::string> names;
  for (const StateEntry& entry : expected) {
    names.push_back(entry.name);
    if (absl::Status ok = CheckEntry(state, entry); !ok.ok()) return ok;
  }
  if (state.size() == names.size()) return absl::OkStatus();
  for (const auto& [name, values] : state) {
    bool known = false;
    for (const std::string& expected_name : names) known |= expected_name == name;
    if (!known) {
      return absl::InvalidArgumentError(absl::StrCat("the state has ", name,
                                                     ", which this layer does not: it has ",
                                                     absl::StrJoin(names, ", ")));
    }
  }
  return absl::OkStatus();
}

absl::Status TakeCounter(const char* name, StateMap* state, uint64_t* value) {
  if (absl::Status ok = CheckEntry(*state, {name, 1, /*counter=*/true}); !ok.ok()) return ok;
  *value = static_cast<uint64_t>(state->at(name)[0]);
  state->erase(name);
  return absl::OkStatus();
}

}  // namespace syncnorm::norms
