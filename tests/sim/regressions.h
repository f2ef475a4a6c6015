// Regressions: seeds that once violated an invariant, with what it was.  They are run by
// sim.fixed_seeds, before all others.
//
// A seed means the same run only as long as plan.cc draws the same from it: a change there makes
// these ordinary seeds.  The bugs have unit tests of their own as well.
//
// Thread-safety: constant.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace syncnorm::sim {

struct Regression {
  uint64_t seed;
  uint64_t rounds;  // 0: as the seed says
  std::string_view what;
};

const std::vector<Regression>& Regressions();

}  // namespace syncnorm::sim
