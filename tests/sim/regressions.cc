#include "tests/sim/regressions.h"

namespace syncnorm::sim {

const std::vector<Regression>& Regressions() {
  static const auto* const regressions = new std::vector<Regression>{};
  return *regressions;
}

}  // namespace syncnorm::sim
