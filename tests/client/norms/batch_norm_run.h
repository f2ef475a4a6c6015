// A batch norm's training in a group, set against the oracle on the whole batch.
#pragma once

#include <syncnorm/batch_norm.h>

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/host_tensor.h"
#include "tests/support/members.h"

namespace syncnorm::testing {

// One step's data of every worker, positions x channels each.
struct BatchNormStep {
  std::vector<std::vector<int64_t>> shapes;
  std::vector<Numbers> x, dy;
  std::vector<std::vector<uint8_t>> valid;  // empty: no mask
  Numbers weight, bias;
};

// One step's results of one worker.
struct BatchNormResult {
  Numbers y, dx;
  SyncBatchNorm::Gradients gradients;
  Numbers running_mean, running_var;
  int64_t batches = 0;
};

// Training in a group of `members`, results[step][rank].
std::vector<std::vector<BatchNormResult>> Train(const Members& members,
                                                const BatchNormOptions& options, DType dtype,
                                                Layout layout,
                                                const std::vector<BatchNormStep>& steps);

// Holds all of `results` against the oracle; errors go to the ledger as `family`.
void ExpectEqualsWholeBatch(const std::string& family, const BatchNormOptions& options, DType dtype,
                            const std::vector<BatchNormStep>& steps,
                            const std::vector<std::vector<BatchNormResult>>& results);

// Steps with random data, as `dtype` holds it: each worker has 0 to 4 samples of
// (C, spatial...), the last one 4 or 5 (the gradient of two nearly equal numbers is all
// rounding).  Where `masked`, NaN lies at the masked positions.
std::vector<BatchNormStep> RandomSteps(std::mt19937_64* random, int world, int steps,
                                       int64_t channels, const std::vector<int64_t>& spatial,
                                       DType dtype, bool masked);

}  // namespace syncnorm::testing
