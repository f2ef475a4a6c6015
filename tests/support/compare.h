// Comparisons with a bound, and a ledger of the worst error of every family of
// cases, printed when a test binary ends.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/host_tensor.h"

namespace syncnorm::testing {

// The largest |got - want|, over the largest |want|; infinite where the sizes differ or
// either is not finite.  0 where both are empty or zero.
double ErrorOf(const Numbers& got, const Numbers& want);

// A gtest expectation that ErrorOf is within `bound`, noted in the ledger under `family`.
void ExpectClose(const std::string& family, const Numbers& got, const Numbers& want, double bound);

// What a tensor of this dtype may be off by: 2e-6 (f32), 1e-12 (f64) of its largest
// value; one rounding (f16, bf16) of values that are themselves as good as f32's.
double BoundOf(DType dtype);
// The same for statistics, which are float32 or better for every dtype but f64.
double StatisticsBoundOf(DType dtype);

// The seed of a test, printed: SYNCNORM_TEST_SEED, or `fallback`.
uint64_t Seed(uint64_t fallback);

}  // namespace syncnorm::testing
