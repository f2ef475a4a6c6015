#include "tests/client/norms/power_norm_run.h"

#include <gtest/gtest.h>

#include "tests/support/compare.h"

namespace syncnorm::testing {

PowerNormTraining Train(const Members& members, const PowerNormOptions& options, DType dtype,
                        const std::vector<PowerNormStep>& steps) {
  PowerNormTraining training;
  training.results.assign(steps.size(), std::vector<PowerNormResult>(members.count));
  training.states.resize(members.count);
  members.run([&](int rank, Reducer* reducer) {
    auto norm = SyncPowerNorm::Create("pn", options, reducer);
    ASSERT_TRUE(norm.ok()) << norm.status();
    for (size_t s = 0; s < steps.size(); ++s) {
      const PowerNormStep& step = steps[s];
      if (options.affine) {
        (*norm)->weight() = step.weight;
        (*norm)->bias() = step.bias;
      }
      const HostTensor x(dtype, step.shapes[rank], Layout::kTokens, step.x[rank]);
      const HostTensor dy(dtype, step.shapes[rank], Layout::kTokens, step.dy[rank]);
      HostTensor y(dtype, step.shapes[rank], Layout::kTokens), dx = y;
      const std::vector<uint8_t>& padding = step.padding[rank];
      SyncPowerNorm::Context context;
      absl::Status status = (*norm)->Forward(x.tensor(), padding.empty() ? nullptr : padding.data(),
                                             y.tensor(), &context);
      ASSERT_TRUE(status.ok()) << status;
      PowerNormResult& result = training.results[s][rank];
      const Tensor dx_tensor = dx.tensor();
      status =
          (*norm)->Backward(context, dy.tensor(), &dx_tensor, &result.gradients, step.grad_scale);
      ASSERT_TRUE(status.ok()) << status;
      result.y = y.Load();
      result.dx = dx.Load();
    }
    const absl::Status drained = (*norm)->Drain();
    ASSERT_TRUE(drained.ok()) << drained;
    const auto state = (*norm)->State();
    ASSERT_TRUE(state.ok()) << state.status();
    training.states[rank] = *state;
  });
  return training;
}

PowerNormOracle OracleOf(const PowerNormOptions& options) {
  const bool paper = options.semantics == PowerNormSemantics::kPaper;
  return PowerNormOracle(options.channels,
                         {.eps = options.eps,
                          .alpha_fwd = options.alpha_fwd,
                          .alpha_bkw = options.alpha_bkw,
                          .group_eps = options.group_eps,
                          .warmup = options.warmup_iters,
                          .groups = options.groups,
                          .paper = paper,
                          .masked_backward = options.masked_backward.value_or(paper)});
}

std::vector<uint8_t> ValidOf(const std::vector<uint8_t>& padding,
                             const std::vector<int64_t>& shape) {
  const int64_t times = shape.size() == 3 ? shape[0] : 1;
  const int64_t samples = shape[shape.size() - 2];
  std::vector<uint8_t> valid;
  for (int64_t t = 0; t < times; ++t) {
    for (int64_t b = 0; !padding.empty() && b < samples; ++b) {
      valid.push_back(padding[b * times + t] == 0);
    }
  }
  return valid;
}

void ExpectState(const std::string& family, const PowerNormState& state,
                 const PowerNormOracle& oracle, double bound) {
  ExpectClose(family + " running_phi", state.at("running_phi"), Rounded(oracle.phi), bound);
  ExpectClose(family + " ema_gz", state.at("ema_gz"), Rounded(oracle.ema), bound);
  EXPECT_EQ(state.at("iters"), Numbers{static_cast<double>(oracle.iters)});
}

void ExpectEqualsWholeBatch(const std::string& family, const PowerNormOptions& options, DType dtype,
                            const std::vector<PowerNormStep>& steps,
                            const PowerNormTraining& training) {
  PowerNormOracle oracle = OracleOf(options);
  for (size_t s = 0; s < steps.size(); ++s) {
    SCOPED_TRACE("step " + std::to_string(s));
    const PowerNormStep& step = steps[s];
    if (options.affine) {
      oracle.weight = step.weight;
      oracle.bias = step.bias;
    }
    std::vector<uint8_t> valid;
    std::vector<Numbers> y, dx;
    Numbers weight(options.affine ? options.channels : 0), bias = weight;
    for (size_t rank = 0; rank < step.x.size(); ++rank) {
      const std::vector<uint8_t> mine = ValidOf(step.padding[rank], step.shapes[rank]);
      valid.insert(valid.end(), mine.begin(), mine.end());
      const PowerNormResult& result = training.results[s][rank];
      y.push_back(result.y);
      dx.push_back(result.dx);
      ASSERT_EQ(result.gradients.weight.size(), weight.size());
      for (size_t c = 0; c < weight.size(); ++c) {
        weight[c] += result.gradients.weight[c];
        bias[c] += result.gradients.bias[c];
      }
    }
    PowerNormOracle::Saved saved;
    const Numbers want_y = oracle.Forward(Concatenate(step.x), valid, &saved);
    const OracleGradients want = oracle.Backward(saved, Concatenate(step.dy), step.grad_scale);
    ExpectClose(family + " y", Concatenate(y), want_y, BoundOf(dtype));
    ExpectClose(family + " dx", Concatenate(dx), want.dx, BoundOf(dtype));
    if (!options.affine) continue;
    ExpectClose(family + " dw db", Concatenate({weight, bias}),
                Concatenate({want.weight, want.bias}), StatisticsBoundOf(dtype));
  }
  for (const PowerNormState& state : training.states) {
    ExpectState(family, state, oracle, StatisticsBoundOf(dtype));
    EXPECT_EQ(state, training.states[0]);  // not only close: every member holds the same bits
  }
}

void ExpectSameBits(const PowerNormTraining& one, const PowerNormTraining& other) {
  ASSERT_EQ(one.results.size(), other.results.size());
  for (size_t s = 0; s < one.results.size(); ++s) {
    SCOPED_TRACE("step " + std::to_string(s));
    ASSERT_EQ(one.results[s].size(), other.results[s].size());
    for (size_t rank = 0; rank < one.results[s].size(); ++rank) {
      const PowerNormResult& a = one.results[s][rank];
      const PowerNormResult& b = other.results[s][rank];
      EXPECT_EQ(a.y, b.y);
      EXPECT_EQ(a.dx, b.dx);
      EXPECT_EQ(a.gradients.weight, b.gradients.weight);
      EXPECT_EQ(a.gradients.bias, b.gradients.bias);
    }
  }
  EXPECT_EQ(one.states, other.states);
}

std::vector<PowerNormStep> RandomSteps(std::mt19937_64* random, int world, int steps,
                                       int64_t channels, DType dtype, bool masked, bool flat) {
  std::vector<PowerNormStep> all(steps);
  const int64_t times = flat ? 1 : 4;
  for (int s = 0; s < steps; ++s) {
    PowerNormStep& step = all[s];
    step.weight = Normal(random, channels, 1);
    step.bias = Normal(random, channels);
    for (int rank = 0; rank < world; ++rank) {
      const int64_t samples = rank == world - 1 ? 2 + (*random)() % 2 : (*random)() % 4;
      std::vector<int64_t> shape = {times, samples, channels};
      if (flat) shape.erase(shape.begin());
      const size_t elements = static_cast<size_t>(times * samples * channels);
      const auto rounded = [&](double mean, double deviation) {
        return HostTensor(dtype, shape, Layout::kTokens, Normal(random, elements, mean, deviation))
            .Load();
      };
      step.shapes.push_back(shape);
      step.x.push_back(rounded(0.3, 1 + s % 3));
      step.dy.push_back(rounded(0, 1));
      std::vector<uint8_t> padding;
      for (int64_t b = 0; masked && b < samples; ++b) {
        int64_t length = 1 + static_cast<int64_t>((*random)() % times);
        if (s % 7 == 2 || (s % 3 == 1 && rank == 0 && world > 1)) length = 0;
        for (int64_t t = 0; t < times; ++t) padding.push_back(t >= length);
      }
      step.padding.push_back(std::move(padding));
    }
  }
  return all;
}

}  // namespace syncnorm::testing
