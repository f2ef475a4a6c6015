// The tests that other implementations hold themselves to, made anew with their numbers: shapes,
// seeds as numbers (the generators differ) and tolerances.  Those that need whole
// networks are in tests/client/torch.
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/client/norms/batch_norm_run.h"
#include "tests/support/compare.h"
#include "tests/support/oracle.h"

namespace syncnorm::testing {
namespace {

struct Piece {
  std::vector<int64_t> shape;
  Numbers x, dy;
};

BatchNormStep StepOf(DType dtype, int64_t channels, std::vector<Piece> pieces) {
  BatchNormStep step{.weight = Numbers(channels, 1), .bias = Numbers(channels, 0)};
  for (Piece& piece : pieces) {
    step.x.push_back(HostTensor(dtype, piece.shape, Layout::kChannelsLast, piece.x).Load());
    step.dy.push_back(HostTensor(dtype, piece.shape, Layout::kChannelsLast, piece.dy).Load());
    step.shapes.push_back(std::move(piece.shape));
    step.valid.push_back({});
  }
  return step;
}

Piece RandomPiece(std::mt19937_64* random, std::vector<int64_t> shape, double deviation = 1) {
  size_t elements = 1;
  for (int64_t size : shape) elements *= static_cast<size_t>(size);
  return {std::move(shape), Normal(random, elements, 0, deviation), Normal(random, elements)};
}

// numpy's allclose, over all of both.
void ExpectAllClose(const Numbers& got, const Numbers& want, double relative, double absolute) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_LE(std::abs(got[i] - want[i]), absolute + relative * std::abs(want[i])) << "at " << i;
  }
}

// PyTorch, DistributedDataParallel_SyncBatchNorm_Diff_Input_Sizes_Running_Value: rank i brings
// (2, 2, 10^(i + 1)), channel 0 all 0.1^(i - 1), channel 1 all 0.3^(i - 1).
TEST(PyTorchTest, DiffInputSizesRunningValue) {
  const struct {
    int world;
    Numbers mean, var;
  } cases[] = {{2, {1.8181818, 1.2121212}, {6.7247821, 0.4520087}},
               {3, {0.2702703, 0.3903904}, {0.9273717, 0.1189202}}};
  for (const auto& want : cases) {
    InProcessGroup group(want.world);
    group.Run([&](int rank, Reducer* reducer) {
      auto norm = *SyncBatchNorm::Create("bn", {.channels = 2, .momentum = 0.99}, reducer);
      const int64_t length = static_cast<int64_t>(std::pow(10, rank + 1));
      Numbers numbers;
      for (int64_t p = 0; p < 2 * length; ++p) {
        numbers.push_back(std::pow(0.1, rank - 1));
        numbers.push_back(std::pow(0.3, rank - 1));
      }
      const HostTensor x(DType::kF32, {2, 2, length}, Layout::kContiguous, numbers);
      const Numbers mean_gradient(numbers.size(), 1.0 / numbers.size());
      const HostTensor dy(DType::kF32, {2, 2, length}, Layout::kContiguous, mean_gradient);
      HostTensor y = x, dx = x;
      const Tensor dx_tensor = dx.tensor();
      for (int i = 0; i < 100; ++i) {
        SyncBatchNorm::Context context;
        SyncBatchNorm::Gradients gradients;
        ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
        ASSERT_TRUE(norm->Backward(context, dy.tensor(), &dx_tensor, &gradients).ok());
      }
      ExpectClose("pytorch running value", norm->running_mean(), want.mean, 1e-7);
      ExpectClose("pytorch running value", norm->running_var(), want.var, 1e-7);
    });
  }
}

// ... Diff_Input_Sizes_gradient (rank r brings r + 2), 2D_Input, Single_Input_Per_Process,
// No_Affine and Channels_Last, five iterations with the recipe's shuffles in place of seeds.
TEST(PyTorchTest, RecipesOfOneLayer) {
  std::mt19937_64 random(Seed(1337));
  const auto run = [&](int world, const std::vector<int64_t>& tail, Layout layout, bool affine,
                       const std::function<int64_t(int)>& samples) {
    std::vector<BatchNormStep> steps;
    for (int i = 0; i < 5; ++i) {
      std::vector<Piece> pieces;
      for (int rank = 0; rank < world; ++rank) {
        std::vector<int64_t> shape = {samples(rank)};
        shape.insert(shape.end(), tail.begin(), tail.end());
        pieces.push_back(RandomPiece(&random, shape));
      }
      steps.push_back(StepOf(DType::kF32, tail[0], std::move(pieces)));
    }
    const BatchNormOptions options{.channels = tail[0], .momentum = 0.99, .affine = affine};
    InProcessGroup group(world);
    ExpectEqualsWholeBatch("pytorch recipes", options, DType::kF32, steps,
                           Train(&group, options, DType::kF32, layout, steps));
  };
  const auto two = [](int) -> int64_t { return 2; };
  const auto growing = [](int rank) -> int64_t { return rank + 2; };
  run(2, {4, 10}, Layout::kContiguous, true, two);
  run(4, {4, 10}, Layout::kContiguous, false, two);
  run(2, {4, 10}, Layout::kContiguous, true, growing);
  run(4, {4, 10}, Layout::kContiguous, true, growing);
  run(4, {2}, Layout::kContiguous, true, two);
  run(4, {2}, Layout::kContiguous, true, [](int) -> int64_t { return 1; });
  run(2, {2, 4, 4}, Layout::kChannelsLast, true, two);
  run(2, {2, 4, 4, 4}, Layout::kChannelsLast, true, two);
}

// ... test_sync_batch_norm_only_empty_input: one member empty, then all.
TEST(PyTorchTest, OnlyEmptyInput) {
  for (bool all : {false, true}) {
    for (bool needs_gradient : {true, false}) {
      InProcessGroup group(3);
      group.Run([&](int rank, Reducer* reducer) {
        auto norm = *SyncBatchNorm::Create("bn", {.channels = 2}, reducer);
        const int64_t samples = rank == 0 || all ? 0 : 1;
        const HostTensor x(DType::kF32, {samples, 2, 11, 13}, Layout::kContiguous,
                           Numbers(samples * 286, 0));
        HostTensor y = x, dx = x;
        SyncBatchNorm::Context context;
        SyncBatchNorm::Gradients gradients;
        const Tensor dx_tensor = dx.tensor();
        ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), &context).ok());
        ASSERT_TRUE(
            norm->Backward(context, x.tensor(), needs_gradient ? &dx_tensor : nullptr, &gradients)
                .ok());
        EXPECT_EQ(y.Load(), Numbers(samples * 286, 0));
        EXPECT_EQ(dx.Load(), Numbers(samples * 286, 0));
        EXPECT_EQ(gradients.weight, Numbers(2, 0));
        EXPECT_EQ(gradients.bias, Numbers(2, 0));
      });
    }
  }
}

// apex, single_gpu_unit_test: N5 C10 16x16, momentum 1.0, float32 within 1e-5.
TEST(ApexTest, SingleUnit) {
  std::mt19937_64 random(Seed(1));
  for (Layout layout : {Layout::kContiguous, Layout::kChannelsLast}) {
    const auto step = StepOf(DType::kF32, 10, {RandomPiece(&random, {5, 10, 16, 16})});
    const BatchNormOptions options{.channels = 10, .momentum = 1.0};
    InProcessGroup group(1);
    const auto results = Train(&group, options, DType::kF32, layout, {step});
    ExpectEqualsWholeBatch("apex single", options, DType::kF32, {step}, results);
    BatchNormOracle oracle(10, 1e-5, 1.0);
    BatchNormOracle::Saved saved;
    ExpectAllClose(results[0][0].y, oracle.Forward(step.x[0], {}, &saved), 1e-5, 1e-5);
    const OracleGradients want = oracle.Backward(saved, step.dy[0]);
    ExpectAllClose(results[0][0].dx, want.dx, 1e-5, 1e-5);
    ExpectAllClose(results[0][0].gradients.weight, want.weight, 1e-5, 1e-5);
    ExpectAllClose(results[0][0].gradients.bias, want.bias, 1e-5, 1e-5);
    ExpectAllClose(results[0][0].running_mean, Rounded(oracle.running_mean), 1e-5, 1e-5);
    ExpectAllClose(results[0][0].running_var, Rounded(oracle.running_var), 1e-5, 1e-5);
  }
}

// apex, two_gpu_unit_test: N32 C10 40x40 split 16/16, within 1e-5 (f32), 1e-3 (f16), 1e-8 (f64).
TEST(ApexTest, TwoUnits) {
  const struct {
    DType dtype;
    double tolerance;
  } cases[] = {{DType::kF32, 1e-5}, {DType::kF16, 1e-3}, {DType::kF64, 1e-8}};
  for (const auto& [dtype, tolerance] : cases) {
    std::mt19937_64 random(Seed(18));
    const auto step =
        StepOf(dtype, 10,
               {RandomPiece(&random, {16, 10, 40, 40}), RandomPiece(&random, {16, 10, 40, 40})});
    const BatchNormOptions options{.channels = 10, .momentum = 1.0};
    InProcessGroup group(2);
    const auto results = Train(&group, options, dtype, Layout::kContiguous, {step});
    BatchNormOracle oracle(10, 1e-5, 1.0);
    BatchNormOracle::Saved saved;
    const Numbers want_y = oracle.Forward(Concatenate(step.x), {}, &saved);
    const OracleGradients want = oracle.Backward(saved, Concatenate(step.dy));
    ExpectAllClose(Concatenate({results[0][0].y, results[0][1].y}), want_y, tolerance, tolerance);
    ExpectAllClose(Concatenate({results[0][0].dx, results[0][1].dx}), want.dx, tolerance,
                   tolerance);
  }
}

// apex, two_gpu_test_different_batch_size, the layer of it: 16 and 8 samples of 6 channels,
// large inputs, gradients in {0, 0.1, ..., 0.9}.
TEST(ApexTest, DifferentBatchSizes) {
  std::mt19937_64 random(Seed(2809));
  Piece large = RandomPiece(&random, {16, 6, 6, 6}, 50), small = RandomPiece(&random, {8, 6, 6, 6});
  for (Piece* piece : {&large, &small}) {
    for (double& number : piece->dy) number = static_cast<double>(random() % 10) / 10 * 2 / 24;
  }
  const auto step = StepOf(DType::kF32, 6, {large, small});
  const BatchNormOptions options{.channels = 6};
  InProcessGroup group(2);
  ExpectEqualsWholeBatch("apex different batch sizes", options, DType::kF32, {step},
                         Train(&group, options, DType::kF32, Layout::kContiguous, {step}));
}

// apex, test_groups: four members in two independent groups at once, seeds 18 and 19; N32 C10
// (of 10x10 here).
TEST(ApexTest, TwoGroupsDoNotMix) {
  const BatchNormOptions options{.channels = 10};
  std::vector<std::vector<BatchNormStep>> steps;
  for (uint64_t seed : {18, 19}) {
    std::mt19937_64 random(Seed(seed));
    steps.push_back(
        {StepOf(DType::kF32, 10,
                {RandomPiece(&random, {16, 10, 10, 10}), RandomPiece(&random, {16, 10, 10, 10})})});
  }
  std::vector<std::vector<std::vector<BatchNormResult>>> results(2);
  std::vector<std::thread> threads;
  for (int g : {0, 1}) {
    threads.emplace_back([&, g] {
      InProcessGroup group(2);
      results[g] = Train(&group, options, DType::kF32, Layout::kContiguous, steps[g]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int g : {0, 1}) {
    ExpectEqualsWholeBatch("apex groups", options, DType::kF32, steps[g], results[g]);
  }
}

// apex, cudnn_gbn: [1, C, H, W] in float16, two members; rtol 3.5e-3, atol 3e-2.
TEST(ApexTest, GroupBatchNormShapes) {
  std::mt19937_64 random(Seed(333));
  const std::vector<std::vector<int64_t>> shapes = {
      {1, 32, 96, 144}, {1, 64, 48, 72}, {1, 128, 24, 36}, {1, 256, 12, 18},
      {1, 512, 6, 9},   {1, 1024, 3, 4}, {1, 2048, 1, 1}};
  for (const std::vector<int64_t>& shape : shapes) {
    SCOPED_TRACE(shape[1]);
    const auto step =
        StepOf(DType::kF16, shape[1], {RandomPiece(&random, shape), RandomPiece(&random, shape)});
    InProcessGroup group(2);
    const auto results =
        Train(&group, {.channels = shape[1]}, DType::kF16, Layout::kChannelsLast, {step});
    BatchNormOracle oracle(shape[1]);
    BatchNormOracle::Saved saved;
    ExpectAllClose(Concatenate({results[0][0].y, results[0][1].y}),
                   oracle.Forward(Concatenate(step.x), {}, &saved), 3.5e-3, 3e-2);
    ExpectAllClose(Concatenate({results[0][0].dx, results[0][1].dx}),
                   oracle.Backward(saved, Concatenate(step.dy)).dx, 3.5e-3, 3e-2);
  }
}

// fairscale: (4, 3, 4[, 4[, 4]]) times the rank, so that rank 0 brings zeros.
TEST(FairscaleTest, ParityWithRankZeroAllZeros) {
  for (const std::vector<int64_t>& spatial :
       std::vector<std::vector<int64_t>>{{4}, {4, 4}, {4, 4, 4}}) {
    std::vector<Piece> pieces;
    for (int rank = 0; rank < 3; ++rank) {
      std::mt19937_64 random(Seed(rank));
      std::vector<int64_t> shape = {4, 3};
      shape.insert(shape.end(), spatial.begin(), spatial.end());
      pieces.push_back(RandomPiece(&random, shape));
      for (double& number : pieces.back().x) number *= rank;
    }
    const auto step = StepOf(DType::kF32, 3, std::move(pieces));
    const BatchNormOptions options{.channels = 3};
    InProcessGroup group(3);
    ExpectEqualsWholeBatch("fairscale", options, DType::kF32, {step},
                           Train(&group, options, DType::kF32, Layout::kContiguous, {step}));
  }
}

// Flax: (4, 3, 2), channels in the middle, NaN at masked places; what remains has mean 0 within
// 1e-4 and variance 1 within 1e-4.
TEST(FlaxTest, NotANumberAtMaskedPlacesDoesNotMatter) {
  std::mt19937_64 random(Seed(0));
  auto norm = *SyncBatchNorm::Create("bn", {.channels = 3}, nullptr);
  Numbers numbers = Normal(&random, 24, 5, 3);
  const std::vector<uint8_t> valid = {1, 1, 0, 1, 1, 1, 1, 0};
  for (size_t i = 0; i < 24; ++i) {
    if (valid[i / 3] == 0) numbers[i] = std::numeric_limits<double>::quiet_NaN();
  }
  const HostTensor x(DType::kF32, {4, 3, 2}, Layout::kContiguous, numbers);
  HostTensor y = x;
  const PositionMask mask{valid.data(), PositionMask::Type::kByte, {4, 1, 2}};
  ASSERT_TRUE(norm->Forward(x.tensor(), &mask, y.tensor(), nullptr).ok());
  const Numbers got = y.Load();
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0;
    for (size_t p = 0; p < 8; ++p) {
      if (valid[p] == 0) {
        EXPECT_EQ(got[p * 3 + c], 0);
        continue;
      }
      sum += got[p * 3 + c];
      squares += got[p * 3 + c] * got[p * 3 + c];
    }
    EXPECT_NEAR(sum / 6, 0, 1e-4);
    EXPECT_NEAR(squares / 6, 1, 1e-4);
  }
}

// ... use_fast_variance=False: adding 1e6 changes nothing beyond 1e-3 of what x + 1e6 can hold.
TEST(FlaxTest, AnOffsetOfAMillionDoesNotMatter) {
  std::mt19937_64 random(Seed(0));
  const HostTensor shifted(DType::kF32, {64, 4}, Layout::kContiguous, Normal(&random, 256, 1e6));
  Numbers centred = shifted.Load();
  for (double& number : centred) number -= 1e6;  // exact
  const HostTensor x(DType::kF32, {64, 4}, Layout::kContiguous, centred);
  HostTensor y = x, y_shifted = x;
  auto norm = *SyncBatchNorm::Create("bn", {.channels = 4}, nullptr);
  ASSERT_TRUE(norm->Forward(x.tensor(), nullptr, y.tensor(), nullptr).ok());
  ASSERT_TRUE(norm->Forward(shifted.tensor(), nullptr, y_shifted.tensor(), nullptr).ok());
  ExpectClose("flax offset of a million", y_shifted.Load(), y.Load(), 2e-6);
}

}  // namespace
}  // namespace syncnorm::testing
