#include "tests/client/norms/batch_norm_run.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/support/compare.h"
#include "tests/support/oracle.h"

namespace syncnorm::testing {
namespace {

// As `dtype` holds them.
Numbers RoundedTo(DType dtype, const Numbers& numbers) {
  const int64_t size = static_cast<int64_t>(numbers.size());
  if (size == 0) return numbers;
  return HostTensor(dtype, {size, 1}, Layout::kContiguous, numbers).Load();
}

Numbers AsFloats(const std::vector<uint8_t>& bytes) { return Numbers(bytes.begin(), bytes.end()); }

}  // namespace

std::vector<std::vector<BatchNormResult>> Train(const Members& members,
                                                const BatchNormOptions& options, DType dtype,
                                                Layout layout,
                                                const std::vector<BatchNormStep>& steps) {
  std::vector<std::vector<BatchNormResult>> results(steps.size(),
                                                    std::vector<BatchNormResult>(members.count));
  members.run([&](int rank, Reducer* reducer) {
    auto norm = SyncBatchNorm::Create("bn", options, reducer);
    ASSERT_TRUE(norm.ok()) << norm.status();
    for (size_t s = 0; s < steps.size(); ++s) {
      const BatchNormStep& step = steps[s];
      if (options.affine) {
        (*norm)->weight() = step.weight;
        (*norm)->bias() = step.bias;
      }
      const HostTensor x(dtype, step.shapes[rank], layout, step.x[rank]);
      HostTensor y(dtype, step.shapes[rank], layout), dx = y;
      // Bytes and floats take turns, as do the two shapes of a mask.
      const std::vector<uint8_t>& valid = step.valid[rank];
      const HostTensor floats(DType::kF32, {static_cast<int64_t>(valid.size()), 1},
                              Layout::kContiguous, AsFloats(valid));
      PositionMask mask{valid.data(), PositionMask::Type::kByte, step.shapes[rank]};
      if (s % 2 == 1) mask = {floats.tensor().data, PositionMask::Type::kF32, step.shapes[rank]};
      if (s % 3 == 0) {
        mask.shape.erase(mask.shape.begin() + 1);
      } else {
        mask.shape[1] = 1;
      }
      SyncBatchNorm::Context context;
      absl::Status status =
          (*norm)->Forward(x.tensor(), valid.empty() ? nullptr : &mask, y.tensor(), &context);
      ASSERT_TRUE(status.ok()) << status;
      BatchNormResult& result = results[s][rank];
      const HostTensor dy(dtype, step.shapes[rank], layout, step.dy[rank]);
      const Tensor dx_tensor = dx.tensor();
      status = (*norm)->Backward(context, dy.tensor(), &dx_tensor, &result.gradients);
      ASSERT_TRUE(status.ok()) << status;
      result.y = y.Load();
      result.dx = dx.Load();
      result.running_mean = (*norm)->running_mean();
      result.running_var = (*norm)->running_var();
      result.batches = (*norm)->num_batches_tracked();
    }
  });
  return results;
}

void ExpectEqualsWholeBatch(const std::string& family, const BatchNormOptions& options, DType dtype,
                            const std::vector<BatchNormStep>& steps,
                            const std::vector<std::vector<BatchNormResult>>& results) {
  BatchNormOracle oracle(options.channels, options.eps, options.momentum);
  for (size_t s = 0; s < steps.size(); ++s) {
    SCOPED_TRACE("step " + std::to_string(s));
    const BatchNormStep& step = steps[s];
    if (options.affine) {
      oracle.weight = step.weight;
      oracle.bias = step.bias;
    }
    std::vector<uint8_t> valid;
    std::vector<Numbers> y, dx;
    Numbers weight(options.affine ? options.channels : 0), bias = weight;
    for (size_t rank = 0; rank < step.x.size(); ++rank) {
      valid.insert(valid.end(), step.valid[rank].begin(), step.valid[rank].end());
      const BatchNormResult& result = results[s][rank];
      y.push_back(result.y);
      dx.push_back(result.dx);
      ASSERT_EQ(result.gradients.weight.size(), weight.size());
      for (size_t c = 0; c < weight.size(); ++c) {
        weight[c] += result.gradients.weight[c];
        bias[c] += result.gradients.bias[c];
      }
    }
    BatchNormOracle::Saved saved;
    const Numbers want_y = oracle.Forward(Concatenate(step.x), valid, &saved);
    const OracleGradients want = oracle.Backward(saved, Concatenate(step.dy));
    ExpectClose(family + " y", Concatenate(y), want_y, BoundOf(dtype));
    ExpectClose(family + " dx", Concatenate(dx), want.dx, BoundOf(dtype));
    if (options.affine) {
      ExpectClose(family + " dw db", Concatenate({weight, bias}),
                  Concatenate({want.weight, want.bias}), StatisticsBoundOf(dtype));
    }
    for (const BatchNormResult& result : results[s]) {
      if (!options.track_running_stats) break;
      ExpectClose(family + " running", Concatenate({result.running_mean, result.running_var}),
                  Concatenate({Rounded(oracle.running_mean), Rounded(oracle.running_var)}),
                  StatisticsBoundOf(dtype));
      EXPECT_EQ(result.batches, oracle.batches);
      // Not only close: every member holds the same bits.
      EXPECT_EQ(result.running_mean, results[s][0].running_mean);
      EXPECT_EQ(result.running_var, results[s][0].running_var);
    }
  }
}

std::vector<BatchNormStep> RandomSteps(std::mt19937_64* random, int world, int steps,
                                       int64_t channels, const std::vector<int64_t>& spatial,
                                       DType dtype, bool masked) {
  std::vector<BatchNormStep> all(steps);
  int64_t inner = 1;
  for (int64_t size : spatial) inner *= size;
  for (BatchNormStep& step : all) {
    step.weight = Normal(random, channels, 1);
    step.bias = Normal(random, channels);
    for (int rank = 0; rank < world; ++rank) {
      const int64_t samples = rank == world - 1 ? 4 + (*random)() % 2 : (*random)() % 5;
      const size_t positions = static_cast<size_t>(samples * inner);
      Numbers x = RoundedTo(dtype, Normal(random, positions * channels, 0.5, 2));
      Numbers dy = RoundedTo(dtype, Normal(random, positions * channels));
      std::vector<uint8_t> valid;
      for (size_t p = 0; masked && p < positions; ++p) {
        valid.push_back((*random)() % 3 != 0 || (rank == world - 1 && p < 2));
        for (int64_t c = 0; valid[p] == 0 && c < channels; ++c) {
          x[p * channels + c] = dy[p * channels + c] = std::numeric_limits<double>::quiet_NaN();
        }
      }
      std::vector<int64_t> shape = {samples, channels};
      shape.insert(shape.end(), spatial.begin(), spatial.end());
      step.shapes.push_back(shape);
      step.x.push_back(std::move(x));
      step.dy.push_back(std::move(dy));
      step.valid.push_back(std::move(valid));
    }
  }
  return all;
}

}  // namespace syncnorm::testing
