// A PowerNorm's training in a group, set against the oracle on the whole batch.
#pragma once

#include <syncnorm/power_norm.h>

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/host_tensor.h"
#include "tests/support/members.h"
#include "tests/support/oracle.h"

namespace syncnorm::testing {

// One step's data of every worker, tokens x channels each, tokens in the order of (T, B).
struct PowerNormStep {
  std::vector<std::vector<int64_t>> shapes;
  std::vector<Numbers> x, dy;
  std::vector<std::vector<uint8_t>> padding;  // B x T, 1 = padding; empty: no mask
  Numbers weight, bias;
  double grad_scale = 1;
};

struct PowerNormResult {
  Numbers y, dx;
  SyncPowerNorm::Gradients gradients;
};

using PowerNormState = std::map<std::string, std::vector<double>>;

struct PowerNormTraining {
  std::vector<std::vector<PowerNormResult>> results;  // [step][rank]
  std::vector<PowerNormState> states;                 // [rank], drained at the end
};

PowerNormTraining Train(const Members& members, const PowerNormOptions& options, DType dtype,
                        const std::vector<PowerNormStep>& steps);

// Holds all of `training` against the oracle; errors go to the ledger as `family`.
void ExpectEqualsWholeBatch(const std::string& family, const PowerNormOptions& options, DType dtype,
                            const std::vector<PowerNormStep>& steps,
                            const PowerNormTraining& training);

// Holds them against each other, bit for bit.
void ExpectSameBits(const PowerNormTraining& one, const PowerNormTraining& other);

// The state of one member against the oracle's.
void ExpectState(const std::string& family, const PowerNormState& state,
                 const PowerNormOracle& oracle, double bound);

PowerNormOracle OracleOf(const PowerNormOptions& options);
// One byte a token in the order of (T, B), 1 = counts.
std::vector<uint8_t> ValidOf(const std::vector<uint8_t>& padding,
                             const std::vector<int64_t>& shape);
// Steps with random data, as `dtype` holds it: worker k has 0 to 3 samples of T = 4 tokens (of
// T = 1 and rank 2 where `flat`), the last one at least 2.  Where `masked`, samples end in
// padding, some workers are all padding, and at steps 2, 9 and 16 so is the whole batch.
std::vector<PowerNormStep> RandomSteps(std::mt19937_64* random, int world, int steps,
                                       int64_t channels, DType dtype, bool masked, bool flat);

}  // namespace syncnorm::testing
