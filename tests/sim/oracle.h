// What a round must give, computed a second time, without any of the code it judges.
//
//   FoldAgain   the canonical order of server/aggregator.h in float64: equal bit for bit
//   Judge       the same from the samples, in long double and two passes: close
//
// Thread-safety: functions without state.
#pragma once

#include <syncnorm/moments.h>

#include <cstdint>
#include <string>
#include <vector>

namespace syncnorm::sim {

// One member's contribution, in the order of ranks.
struct Part {
  const std::string* host = nullptr;
  const Moments* moments = nullptr;
  const std::vector<double>* samples = nullptr;
};

// `shape` gives kind, precision, rows and channels; its values do not matter.
Moments FoldAgain(const Moments& shape, const std::vector<Part>& parts);

// Whether two are the same bit for bit; any NaN is the same as any other.
bool SameBits(const Moments& a, const Moments& b);

// "" if `result` is within the rounding errors of the definition; otherwise what differs.
std::string CompareWithDefinition(const Moments& result, const std::vector<Part>& parts);

// "count=3 [1.5 2 0]".
std::string Show(const Moments& moments);

}  // namespace syncnorm::sim
