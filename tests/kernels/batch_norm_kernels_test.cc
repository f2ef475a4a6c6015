// Every backend x dtype x layout x size x misalignment x mask against an oracle
// in long double, for batch norm's four operations.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/support.h"

namespace syncnorm::kernels {
namespace {

constexpr uint32_t kSeed = 20240229;

// The oracle: the formulas of kernels.h, and the sums of magnitudes that
// rounding errors are measured against.
struct Oracle {
  Oracle(Memory& x, Memory& dy, const Grid& grid, const uint8_t* valid)
      : mean(grid.channels),
        m2(grid.channels),
        sum_dy(grid.channels),
        sum_dy_xc(grid.channels),
        magnitude_dy(grid.channels),
        magnitude_dy_xc(grid.channels),
        y(x.elements()),
        dx(x.elements()),
        center(grid.channels),
        scale(grid.channels),
        shift(grid.channels),
        a(grid.channels),
        b(grid.channels),
        d(grid.channels) {
    for (int64_t c = 0; c < grid.channels; ++c) {
      std::vector<size_t> at;
      for (int64_t o = 0; o < grid.outer; ++o) {
        for (int64_t i = 0; i < grid.inner; ++i) {
          if (valid != nullptr && valid[o * grid.inner + i] == 0) continue;
          at.push_back(static_cast<size_t>((o * grid.channels + c) * grid.inner + i));
        }
      }
      count = at.size();
      for (size_t i : at) mean[c] += x.Get(i);
      if (count > 0) mean[c] /= static_cast<long double>(count);
      for (size_t i : at) m2[c] += (x.Get(i) - mean[c]) * (x.Get(i) - mean[c]);

      center[c] = 3 + 0.013 * static_cast<double>(c % 7);
      scale[c] = 0.7 + 0.11 * static_cast<double>(c % 5);
      shift[c] = 0.3 * static_cast<double>(c % 3) - 0.2;
      a[c] = 1.1 - 0.07 * static_cast<double>(c % 6);
      b[c] = 0.05 * static_cast<double>(c % 4) - 0.02;
      d[c] = 0.01 * static_cast<double>(c % 9);
      for (size_t i : at) {
        const long double deviation = static_cast<long double>(x.Get(i)) - center[c];
        const long double g = dy.Get(i);
        sum_dy[c] += g;
        sum_dy_xc[c] += g * deviation;
        magnitude_dy[c] += fabsl(g);
        magnitude_dy_xc[c] += fabsl(g * deviation);
        y[i] = deviation * scale[c] + shift[c];
        dx[i] = a[c] * g + b[c] * deviation + d[c];
        largest_y = std::max(largest_y, fabsl(y[i]));
        largest_dx = std::max(largest_dx, fabsl(dx[i]));
      }
    }
  }

  uint64_t count = 0;
  std::vector<long double> mean, m2, sum_dy, sum_dy_xc, magnitude_dy, magnitude_dy_xc, y, dx;
  long double largest_y = 0, largest_dx = 0;
  std::vector<double> center, scale, shift, a, b, d;
};

void CheckReductions(const Kernels& kernels, Memory& x, Memory& dy, const uint8_t* valid,
                     const Oracle& oracle, const Tolerance& tolerance) {
  const size_t channels = oracle.mean.size();
  const double sentinel = -77;
  uint64_t count = 999;
  std::vector<double> mean(channels, sentinel), m2(mean), sum_dy(mean), sum_dy_xc(mean);
  kernels.MeanM2(x.slab(), valid, &count, mean.data(), m2.data());
  kernels.GradSums(x.slab(), dy.slab(), valid, oracle.center.data(), sum_dy.data(),
                   sum_dy_xc.data());
  if (channels > 0) {
    ASSERT_EQ(count, oracle.count);
  }
  for (size_t c = 0; c < channels; ++c) {
    const double deviation =
        std::sqrt(static_cast<double>(oracle.m2[c]) / std::max<double>(1, oracle.count));
    ASSERT_NEAR(mean[c], static_cast<double>(oracle.mean[c]),
                tolerance.wide * deviation + 1e-15 * fabsl(oracle.mean[c]))
        << "channel " << c;
    ASSERT_NEAR(m2[c], static_cast<double>(oracle.m2[c]), tolerance.variance * oracle.m2[c])
        << "channel " << c;
    ASSERT_NEAR(sum_dy[c], static_cast<double>(oracle.sum_dy[c]),
                tolerance.wide * oracle.magnitude_dy[c])
        << "channel " << c;
    ASSERT_NEAR(sum_dy_xc[c], static_cast<double>(oracle.sum_dy_xc[c]),
                tolerance.wide * (oracle.magnitude_dy_xc[c] + oracle.magnitude_dy[c]))
        << "channel " << c;
  }
}

void CheckMaps(const Kernels& kernels, Memory& x, Memory& dy, Memory& y, Memory& dx,
               const uint8_t* valid, const Oracle& oracle, const Tolerance& tolerance) {
  kernels.Affine(x.slab(), valid, oracle.center.data(), oracle.scale.data(), oracle.shift.data(),
                 y.slab());
  kernels.Grad(x.slab(), dy.slab(), valid, oracle.center.data(), oracle.a.data(), oracle.b.data(),
               oracle.d.data(), dx.slab());
  for (size_t i = 0; i < x.elements(); ++i) {
    ASSERT_TRUE(Near(y.Get(i), oracle.y[i], tolerance, oracle.largest_y))
        << "y[" << i << "] = " << y.Get(i) << ", expected " << oracle.y[i];
    ASSERT_TRUE(Near(dx.Get(i), oracle.dx[i], tolerance, oracle.largest_dx))
        << "dx[" << i << "] = " << dx.Get(i) << ", expected " << oracle.dx[i];
  }
  ASSERT_TRUE(y.PoisonIsIntact());
  ASSERT_TRUE(dx.PoisonIsIntact());
}

// The same once more, now onto the inputs: equal bits.
void CheckInPlace(const Kernels& kernels, Memory& x, Memory& dy, Memory& y, Memory& dx,
                  const uint8_t* valid, const Oracle& oracle) {
  kernels.Grad(x.slab(), dy.slab(), valid, oracle.center.data(), oracle.a.data(), oracle.b.data(),
               oracle.d.data(), dy.slab());
  ASSERT_TRUE(dy.SameBytes(dx));
  kernels.Affine(x.slab(), valid, oracle.center.data(), oracle.scale.data(), oracle.shift.data(),
                 x.slab());
  ASSERT_TRUE(x.SameBytes(y));
  ASSERT_TRUE(x.PoisonIsIntact());
  ASSERT_TRUE(dy.PoisonIsIntact());
}

// One grid and mask through every backend, aligned and not.
void CheckCase(DType dtype, const Grid& grid, Mask mask, std::mt19937& random) {
  const std::vector<uint8_t> bytes = MaskOf(mask, grid.positions(), random);
  const uint8_t* valid = mask == Mask::kNone ? nullptr : bytes.data();
  std::normal_distribution<double> normal;
  Memory x(dtype, grid, 0), dy(dtype, grid, 0);
  for (size_t i = 0; i < x.elements(); ++i) {
    const size_t inner = static_cast<size_t>(grid.inner);
    const size_t row = static_cast<size_t>(grid.channels * grid.inner);
    const bool ok = valid == nullptr || valid[i / row * inner + i % inner] != 0;
    if (ok) {  // else NaN stays there
      x.Put(i, 3 + normal(random));
      dy.Put(i, normal(random));
    }
  }
  const Oracle oracle(x, dy, grid, valid);
  const Tolerance tolerance = ToleranceOf(dtype);
  for (const Backend& backend : Backends()) {
    for (size_t skew : {0, 1, 3}) {
      SCOPED_TRACE(testing::Message() << backend.name() << ", " << Describe(grid) << ", mask "
                                      << static_cast<int>(mask) << ", skew " << skew);
      Memory my_x(dtype, grid, skew), my_dy(dtype, grid, skew);
      Memory y(dtype, grid, skew), dx(dtype, grid, skew);
      my_x.CopyFrom(x);
      my_dy.CopyFrom(dy);
      backend.Run([&](const Kernels& kernels) {
        ASSERT_NO_FATAL_FAILURE(CheckReductions(kernels, my_x, my_dy, valid, oracle, tolerance));
        ASSERT_NO_FATAL_FAILURE(CheckMaps(kernels, my_x, my_dy, y, dx, valid, oracle, tolerance));
        ASSERT_NO_FATAL_FAILURE(CheckInPlace(kernels, my_x, my_dy, y, dx, valid, oracle));
      });
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

class BatchNormKernelsTest : public testing::TestWithParam<DType> {
 protected:
  void CheckAll(const std::vector<Grid>& grids) {
    std::printf("seed %u\n", kSeed);
    std::mt19937 random(kSeed);
    for (const Grid& grid : grids) {
      for (Mask mask : kMasks) {
        CheckCase(GetParam(), grid, mask, random);
        if (HasFatalFailure()) return;
      }
    }
  }
};

TEST_P(BatchNormKernelsTest, TakesEmptyTensors) {
  CheckAll({{0, 0, 0}, {0, 3, 4}, {3, 0, 4}, {3, 4, 0}, {0, 3, 1}, {3, 0, 1}});
}

// Runs of every length from one element to two vectors and one, in grids of few
// rows (walked as runs) and of more (walked as columns).
TEST_P(BatchNormKernelsTest, TakesShortRunsOfEveryLength) {
  std::vector<Grid> grids;
  for (int64_t inner = 1; inner <= 33; ++inner) {
    grids.push_back({2, 3, inner});
    grids.push_back({9, 3, inner});
  }
  CheckAll(grids);
}

TEST_P(BatchNormKernelsTest, TakesLongRuns) {
  CheckAll({{3, 2, 49},
            {17, 5, 49},
            {9, 7, 196},
            {2, 3, 255},
            {9, 2, 256},
            {2, 2, 257},
            {2, 3, 3136},
            {1, 2, 8193},
            {2, 1, 20000}});
}

TEST_P(BatchNormKernelsTest, TakesEveryNumberOfChannelsInChannelsLast) {
  std::vector<Grid> grids;
  for (int64_t channels = 1; channels <= 33; ++channels) {
    grids.push_back({3, channels, 1});
    grids.push_back({37, channels, 1});
  }
  CheckAll(grids);
}

TEST_P(BatchNormKernelsTest, TakesManyRowsAndWideRowsInChannelsLast) {
  CheckAll({{1, 64, 1},
            {4099, 3, 1},
            {1500, 17, 1},
            {1030, 100, 1},
            {515, 257, 1},
            {5, 2100, 1},
            {9, 300, 7}});
}

INSTANTIATE_TEST_SUITE_P(EveryDType, BatchNormKernelsTest, testing::ValuesIn(kDTypes), DTypeName);

}  // namespace
}  // namespace syncnorm::kernels
