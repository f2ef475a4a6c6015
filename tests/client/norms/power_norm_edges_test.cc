// PowerNorm's recurrences as the authors write them, its state, eval, and its edges.
#include <gtest/gtest.h>
#include <syncnorm/power_norm.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "tests/client/norms/power_norm_run.h"
#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

using Semantics = PowerNormSemantics;

// x, dy and padding by formula; the results come from an independent float64 implementation
// of the authors' recurrences (and of the paper's), four steps in, two of them warm-up.
struct Recurrence {
  Semantics semantics;
  Numbers y, dx, dw, phi, ema;
};

TEST(PowerNormRecurrenceTest, GivesTheNumbersOfAnIndependentImplementation) {
  const Recurrence cases[] = {
      {Semantics::kReference,
       {-0.570363299796842, -0.686616796588583, 1.60282337504885, 0.559672235306765,
        -0.820723611597889, 0.186883936094016, 1.6663602099804, -0.470318609443843,
        -0.703135992929145, 0.999309974650557, 1.3586485742236, -1.3106759906868,
        -0.334704899387597, 1.60147877326219, 0.79634803160948, -1.87365883980318},
       {0.972952811511309, -1.33720511649158, -0.256720348383982, 0.72300543360328,
        -0.154544520021189, 2.28615506302439, -0.334178530253573, -1.74755124138568,
        -0.779288777996874, -1.69838455134565, 1.72693281789601, 2.21960066782975,
        0.615554359876977, 0.500091812856474, -1.52297051556709, -0.739236202216731},
       {-0.0414368279811818, 0.621934129549923, -0.611481524401212, 0.822279462760366},
       {1.29330107761772, 0.706658235626087, 1.28710824360594, 0.71285187949845},
       {-0.0247558886583455, 0.323352467491395, -0.414444341245288, 0.6170897731489}},
      {Semantics::kPaper,
       {-0.698348078439961, -0.576113478789554, 1.75394313621571, 0.495503915907322,
        -0.978644309281732, 0.199553191676526, 1.82386905949894, -0.43429659496676,
        -0.846996580976057, 0.920985672210098, 1.48521479290748, -1.19290986456888,
        -0.43451168629885, 1.45571020030888, 0.866370863282838, -1.70112966418127},
       {0.363442831188619, -0.49954660276555, -0.275015693960711, 0.774491759307019,
        -0.0836401464434862, 1.23751175696801, -0.20380495241581, -1.06576899993017,
        -0.574716673946214, -1.2525057896353, 0.941076193852258, 1.20954688209267, 0, 0, 0, 0},
       {-0.0463914852063045, 0.552276097165567, -0.672970414885399, 0.742293845088473},
       {1.13175886161902, 0.868210116799825, 1.14887189072376, 0.851097481468797},
       {0.23212748732942, 0.192260717439541, -0.0677468511734972, -0.0774632945502495}}};
  for (const Recurrence& want : cases) {
    std::vector<PowerNormStep> steps(4);
    for (int s = 0; s < 4; ++s) {
      Numbers x, dy;
      for (int i = 0; i < 16; ++i) {
        x.push_back(std::sin(1.7 * i + s + 1));
        dy.push_back(std::cos(0.9 * i - s - 1));
      }
      steps[s] = {.shapes = {{2, 2, 4}},
                  .x = {x},
                  .dy = {dy},
                  .padding = {{0, 0, 0, 1}},
                  .weight = {1, 1.1, 1.2, 1.3},
                  .bias = {0.5, 0.3, 0.1, -0.1}};
    }
    InProcessGroup one(1);
    const PowerNormTraining training = Train(&one,
                                             {.channels = 4,
                                              .eps = 1e-3,
                                              .alpha_fwd = 0.7,
                                              .alpha_bkw = 0.6,
                                              .warmup_iters = 2,
                                              .groups = 2,
                                              .semantics = want.semantics},
                                             DType::kF64, steps);
    const PowerNormResult& last = training.results[3][0];
    ExpectClose("pn golden y", last.y, want.y, 1e-13);
    ExpectClose("pn golden dx", last.dx, want.dx, 1e-13);
    ExpectClose("pn golden dw", last.gradients.weight, want.dw, 1e-13);
    ExpectClose("pn golden running_phi", training.states[0].at("running_phi"), want.phi, 1e-13);
    ExpectClose("pn golden ema_gz", training.states[0].at("ema_gz"), want.ema, 1e-13);
  }
}

// While t < W the two updates are one average with decay alpha (t - 1) / t.
TEST(PowerNormRecurrenceTest, WarmUpAveragesWithAGrowingDecay) {
  auto norm = *SyncPowerNorm::Create("pn", {.channels = 1, .group_eps = 1e-300}, nullptr);
  // One channel: the group scaling makes every token +-1, except those of 0.
  double phi = 1;
  for (int t = 1; t <= 5; ++t) {
    HostTensor x(DType::kF64, {t, 1}, Layout::kTokens, Numbers(t, 0));
    Numbers values(t, 0);
    values[0] = 3;
    x.Store(values);
    HostTensor y = x;
    ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), nullptr).ok());
    const double decay = 0.9 * (t - 1) / t;
    phi = decay * phi + (1 - decay) / t;  // v_t = 1 / t
    EXPECT_NEAR(norm->State()->at("running_phi")[0], phi, 1e-15);
  }
}

TEST(PowerNormStateTest, RestoresTheLayerBitForBit) {
  std::mt19937_64 random(Seed(41));
  const PowerNormOptions options{.channels = 6, .alpha_bkw = 0.7, .warmup_iters = 4, .groups = 3};
  const auto steps = RandomSteps(&random, 1, 10, 6, DType::kF32, true, false);
  InProcessGroup one(1);
  const PowerNormTraining through = Train(&one, options, DType::kF32, steps);
  const PowerNormTraining half =
      Train(&one, options, DType::kF32, {steps.begin(), steps.begin() + 5});
  auto resumed = *SyncPowerNorm::Create("pn", options, nullptr);
  ASSERT_TRUE(resumed->LoadState(half.states[0]).ok());
  for (size_t s = 5; s < 10; ++s) {
    resumed->weight() = steps[s].weight;
    resumed->bias() = steps[s].bias;
    const HostTensor x(DType::kF32, steps[s].shapes[0], Layout::kTokens, steps[s].x[0]);
    const HostTensor dy(DType::kF32, steps[s].shapes[0], Layout::kTokens, steps[s].dy[0]);
    HostTensor y(DType::kF32, steps[s].shapes[0], Layout::kTokens), dx = y;
    const Tensor dx_tensor = dx.tensor();
    SyncPowerNorm::Context context;
    ASSERT_TRUE(
        resumed->Forward(x.tensor(), steps[s].padding[0].data(), y.tensor(), &context).ok());
    ASSERT_TRUE(resumed->Backward(context, dy.tensor(), &dx_tensor, nullptr).ok());
    EXPECT_EQ(y.Load(), through.results[s][0].y);
    EXPECT_EQ(dx.Load(), through.results[s][0].dx);
  }
  EXPECT_EQ(*resumed->State(), through.states[0]);
}

TEST(PowerNormStateTest, BeginsAsTheAuthorsDo) {
  auto norm = *SyncPowerNorm::Create("pn", {.channels = 2}, nullptr);
  const PowerNormState want = {{"weight", {1, 1}},
                               {"bias", {0, 0}},
                               {"running_phi", {1, 1}},
                               {"ema_gz", {0, 0}},
                               {"iters", {0}}};
  EXPECT_EQ(*norm->State(), want);
  auto bare = *SyncPowerNorm::Create("pn", {.channels = 2, .affine = false}, nullptr);
  EXPECT_EQ(bare->State()->size(), 3u);
}

TEST(PowerNormEvalTest, NormalisesByTheRunningStatisticAndIgnoresTheMask) {
  std::mt19937_64 random(Seed(42));
  auto norm = *SyncPowerNorm::Create("pn", {.channels = 4, .groups = 2}, nullptr);
  PowerNormState state = *norm->State();
  state["running_phi"] = {1, 2, 3, 4};
  state["weight"] = {1, -1, 2, 0.5};
  state["bias"] = {0, 1, 0, -1};
  ASSERT_TRUE(norm->LoadState(state).ok());
  PowerNormOracle oracle = OracleOf(norm->options());
  oracle.phi = {1, 2, 3, 4};
  oracle.weight = state["weight"];
  oracle.bias = state["bias"];

  norm->set_training(false);
  const Numbers numbers = Normal(&random, 24), gradient = Normal(&random, 24);
  const HostTensor flat(DType::kF64, {6, 4}, Layout::kTokens, numbers);
  const HostTensor deep(DType::kF64, {1, 6, 4}, Layout::kTokens, numbers);
  HostTensor y_flat(DType::kF64, {6, 4}, Layout::kTokens);
  HostTensor y_deep(DType::kF64, {1, 6, 4}, Layout::kTokens);
  const std::vector<uint8_t> padding(6, 1);
  SyncPowerNorm::Context context;
  ASSERT_TRUE(norm->Forward(flat.tensor(), padding.data(), y_flat.tensor(), &context).ok());
  ASSERT_TRUE(norm->Forward(deep.tensor(), nullptr, y_deep.tensor(), nullptr).ok());
  EXPECT_EQ(y_flat.Load(), y_deep.Load());
  ExpectClose("pn eval y", y_flat.Load(), oracle.Infer(numbers), 1e-14);

  // phi is a constant: the gradient is that of y = scale * xs + bias.
  const HostTensor dy(DType::kF64, {6, 4}, Layout::kTokens, gradient);
  HostTensor dx(DType::kF64, {6, 4}, Layout::kTokens);
  const Tensor dx_tensor = dx.tensor();
  SyncPowerNorm::Gradients gradients;
  ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, &gradients).ok());
  Numbers want;
  const double h = 1e-6;
  for (size_t i = 0; i < numbers.size(); ++i) {
    Numbers up = numbers, down = numbers;
    up[i] += h;
    down[i] -= h;
    const Numbers y_up = oracle.Infer(up), y_down = oracle.Infer(down);
    double slope = 0;
    for (size_t j = 0; j < up.size(); ++j) slope += gradient[j] * (y_up[j] - y_down[j]) / (2 * h);
    want.push_back(slope);
  }
  ExpectClose("pn eval dx by differences", dx.Load(), want, 1e-8);
  EXPECT_EQ(gradients.weight.size(), 4u);
  EXPECT_EQ(*norm->State(), state);
}

// Loss scaling: dx carries the scale, the state does not know it.
TEST(PowerNormEdgeTest, ALossScaleThatIsAPowerOfTwoChangesNoBitOfTheState) {
  std::mt19937_64 random(Seed(43));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    const PowerNormOptions options{.channels = 6, .warmup_iters = 3, .semantics = semantics};
    auto steps = RandomSteps(&random, 2, 8, 6, DType::kF32, true, false);
    InProcessGroup one(2), two(2);
    const PowerNormTraining plain = Train(&one, options, DType::kF32, steps);
    for (size_t s = 0; s < steps.size(); ++s) {
      steps[s].grad_scale = s % 2 == 0 ? 64 : 4096;
      for (Numbers& dy : steps[s].dy) {
        for (double& number : dy) number *= steps[s].grad_scale;
      }
    }
    const PowerNormTraining scaled = Train(&two, options, DType::kF32, steps);
    EXPECT_EQ(plain.states, scaled.states);
    for (size_t s = 0; s < steps.size(); ++s) {
      Numbers dx = scaled.results[s][1].dx;
      for (double& number : dx) number /= steps[s].grad_scale;
      EXPECT_EQ(dx, plain.results[s][1].dx);
    }
  }
}

TEST(PowerNormEdgeTest, AnOverflowOfOneMemberMovesEmaOnNone) {
  std::mt19937_64 random(Seed(44));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    for (bool forward : {false, true}) {
      const PowerNormOptions options{.channels = 6, .warmup_iters = 1, .semantics = semantics};
      auto steps = RandomSteps(&random, 3, 4, 6, DType::kF32, false, false);
      InProcessGroup before_group(3), after_group(3);
      const PowerNormTraining before =
          Train(&before_group, options, DType::kF32, {steps.begin(), steps.begin() + 3});
      Numbers& bad = forward ? steps[3].x[2] : steps[3].dy[2];
      bad[1] = std::numeric_limits<double>::infinity();
      const PowerNormTraining after = Train(&after_group, options, DType::kF32, steps);
      for (int rank = 0; rank < 3; ++rank) {
        EXPECT_EQ(after.states[rank].at("ema_gz"), before.states[0].at("ema_gz"));
        EXPECT_EQ(after.states[rank].at("iters"), Numbers{forward ? 3.0 : 4.0});
        EXPECT_EQ(after.states[rank].at("running_phi") == before.states[0].at("running_phi"),
                  forward);
      }
    }
  }
}

TEST(PowerNormEdgeTest, ABatchThatIsAllPaddingLeavesTheStateUntouched) {
  std::mt19937_64 random(Seed(45));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    for (int64_t warmup : {0, 10}) {
      const PowerNormOptions options{.channels = 6, .warmup_iters = warmup, .semantics = semantics};
      auto steps = RandomSteps(&random, 2, 3, 6, DType::kF32, true, false);  // step 2: all padding
      steps[2].weight = steps[1].weight;
      steps[2].bias = steps[1].bias;
      InProcessGroup before(2), after(2);
      const auto want = Train(&before, options, DType::kF32, {steps.begin(), steps.begin() + 2});
      const auto got = Train(&after, options, DType::kF32, steps);
      EXPECT_EQ(got.states, want.states);
      for (double number : got.results[2][1].y) EXPECT_TRUE(std::isfinite(number));
    }
  }
}

TEST(PowerNormEdgeTest, AGroupWithoutATokenLeavesTheStateUntouched) {
  const PowerNormOptions options{.channels = 6, .warmup_iters = 10};
  PowerNormStep empty{.shapes = {{4, 0, 6}, {0, 3, 6}},
                      .x = {{}, {}},
                      .dy = {{}, {}},
                      .padding = {{}, {}},
                      .weight = Numbers(6, 1),
                      .bias = Numbers(6, 0)};
  InProcessGroup group(2);
  const auto training = Train(&group, options, DType::kF16, {empty, empty});
  auto fresh = *SyncPowerNorm::Create("pn", options, nullptr);
  EXPECT_EQ(training.states[0], *fresh->State());
  EXPECT_EQ(training.results[1][0].gradients.weight, Numbers(6, 0));
  EXPECT_EQ(group.completed(), 4u);
}

TEST(PowerNormEdgeTest, ANullDxIsStillARound) {
  std::mt19937_64 random(Seed(46));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    const auto steps = RandomSteps(&random, 2, 5, 6, DType::kF64, false, false);
    const PowerNormOptions options{.channels = 6, .warmup_iters = 2, .semantics = semantics};
    InProcessGroup with(2), without(2);
    const PowerNormTraining want = Train(&with, options, DType::kF64, steps);
    without.Run([&](int rank, Reducer* reducer) {
      auto norm = *SyncPowerNorm::Create("pn", options, reducer);
      for (const PowerNormStep& step : steps) {
        norm->weight() = step.weight;
        norm->bias() = step.bias;
        const HostTensor x(DType::kF64, step.shapes[rank], Layout::kTokens, step.x[rank]);
        const HostTensor dy(DType::kF64, step.shapes[rank], Layout::kTokens, step.dy[rank]);
        HostTensor y = x;
        SyncPowerNorm::Context context;
        ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
        ASSERT_TRUE(norm->Backward(context, dy.tensor(), nullptr, nullptr).ok());
      }
      ASSERT_TRUE(norm->Drain().ok());
      EXPECT_EQ(*norm->State(), want.states[rank]);
    });
    EXPECT_EQ(without.completed(), 10u);
  }
}

}  // namespace
}  // namespace syncnorm::testing
