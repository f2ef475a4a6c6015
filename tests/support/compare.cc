#include "tests/support/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <utility>

namespace syncnorm::testing {
namespace {

// Prints itself when the binary's tests are over.
class Ledger : public ::testing::Environment {
 public:
  void Note(const std::string& family, double error, double bound) {
    auto& worst = worst_[family];
    worst = {std::max(worst.first, error), std::max(worst.second, bound)};
  }
  void TearDown() override {
    for (const auto& [family, worst] : worst_) {
      std::printf("[  worst   ] %-44s %.2e (bound %.2e)\n", family.c_str(), worst.first,
                  worst.second);
    }
  }

 private:
  std::map<std::string, std::pair<double, double>> worst_;
};

Ledger* TheLedger() {
  static Ledger* const ledger = new Ledger;  // gtest owns it
  return ledger;
}

[[maybe_unused]] const auto* const registered = ::testing::AddGlobalTestEnvironment(TheLedger());

}  // namespace

double ErrorOf(const Numbers& got, const Numbers& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double largest = 0, worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (!std::isfinite(got[i]) || !std::isfinite(want[i])) {
      return std::numeric_limits<double>::infinity();
    }
    largest = std::max(largest, std::abs(want[i]));
    worst = std::max(worst, std::abs(got[i] - want[i]));
  }
  return worst == 0 ? 0 : worst / largest;
}

void ExpectClose(const std::string& family, const Numbers& got, const Numbers& want, double bound) {
  const double error = ErrorOf(got, want);
  TheLedger()->Note(family, error, bound);
  EXPECT_LE(error, bound) << family << " of " << want.size() << " numbers";
}

double BoundOf(DType dtype) {
  const bool half = dtype == DType::kF16 || dtype == DType::kBF16;
  return half ? UnitRoundoff(dtype) + 2e-6 : StatisticsBoundOf(dtype);
}

double StatisticsBoundOf(DType dtype) { return dtype == DType::kF64 ? 1e-12 : 2e-6; }

uint64_t Seed(uint64_t fallback) {
  const char* chosen = std::getenv("SYNCNORM_TEST_SEED");
  const uint64_t seed = chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : fallback;
  std::printf("[   seed   ] SYNCNORM_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

}  // namespace syncnorm::testing
