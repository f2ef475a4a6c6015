// Every backend x dtype x size x groups x misalignment x mask against an oracle
// in long double, for PowerNorm's five operations.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/support.h"

namespace syncnorm::kernels {
namespace {

constexpr uint32_t kSeed = 20240301;
constexpr double kEps = 1e-5;

struct Oracle {
  Oracle(Memory& x, Memory& dy, const Grid& grid, int64_t groups, const uint8_t* valid)
      : r(grid.outer * groups),
        scale(grid.channels),
        shift(grid.channels),
        a(grid.channels),
        b(grid.channels),
        sum_x2(grid.channels),
        sum_dy(grid.channels),
        sum_dy_xs(grid.channels),
        magnitude_dy(grid.channels),
        magnitude_dy_xs(grid.channels),
        y(x.elements()),
        dx(x.elements()) {
    const int64_t channels = grid.channels;
    const int64_t size = channels / groups;
    for (int64_t c = 0; c < channels; ++c) {
      scale[c] = 0.7 + 0.11 * static_cast<double>(c % 5);
      shift[c] = 0.3 * static_cast<double>(c % 3) - 0.2;
      a[c] = 1.1 - 0.07 * static_cast<double>(c % 6);
      b[c] = 0.05 * static_cast<double>(c % 4) - 0.02;
    }
    for (int64_t t = 0; t < grid.outer; ++t) {
      const bool ok = valid == nullptr || valid[t] != 0;
      count += ok;
      for (int64_t g = 0; g < groups; ++g) Group(x, dy, t, g, size, groups, ok);
    }
  }

  void Group(Memory& x, Memory& dy, int64_t t, int64_t g, int64_t size, int64_t groups, bool ok) {
    const int64_t base = (t * groups + g) * size;
    long double power = 0;
    for (int64_t k = 0; k < size; ++k) {
      power += static_cast<long double>(x.Get(base + k)) * x.Get(base + k);
    }
    const long double rt = 1 / sqrtl(power / static_cast<long double>(size) + kEps);
    r[t * groups + g] = static_cast<double>(rt);

    long double dot = 0;
    std::vector<long double> gradient(size);
    for (int64_t k = 0; k < size; ++k) {
      const int64_t c = g * size + k;
      const long double value = x.Get(base + k);
      const long double xs = value * rt;
      y[base + k] = xs * scale[c] + shift[c];
      if (!std::isnan(y[base + k])) largest_y = std::max(largest_y, fabsl(y[base + k]));
      if (!ok) continue;
      const long double incoming = dy.Get(base + k);
      sum_x2[c] += xs * xs;
      sum_dy[c] += incoming;
      sum_dy_xs[c] += incoming * xs;
      magnitude_dy[c] += fabsl(incoming);
      magnitude_dy_xs[c] += fabsl(incoming * xs);
      gradient[k] = a[c] * incoming + b[c] * xs;
      dot += value * gradient[k];
    }
    for (int64_t k = 0; ok && k < size; ++k) {
      dx[base + k] =
          rt * gradient[k] - x.Get(base + k) * rt * rt * rt * dot / static_cast<long double>(size);
      largest_dx = std::max(largest_dx, fabsl(rt * gradient[k]));
    }
  }

  uint64_t count = 0;
  std::vector<double> r, scale, shift, a, b;
  std::vector<long double> sum_x2, sum_dy, sum_dy_xs, magnitude_dy, magnitude_dy_xs, y, dx;
  long double largest_y = 0, largest_dx = 0;
};

void CheckReductions(const Kernels& kernels, Memory& x, Memory& dy, int64_t groups,
                     const uint8_t* valid, const Oracle& oracle, const Tolerance& tolerance) {
  const double sentinel = -77;
  std::vector<double> r(oracle.r.size(), sentinel);
  kernels.GroupScale(x.slab(), groups, kEps, r.data());
  for (size_t i = 0; i < r.size(); ++i) {
    if (std::isnan(oracle.r[i])) {
      ASSERT_TRUE(std::isnan(r[i])) << i;
    } else {
      ASSERT_NEAR(r[i], oracle.r[i], tolerance.wide * oracle.r[i]) << i;
    }
  }

  const size_t channels = oracle.sum_dy.size();
  std::vector<double> forward(channels, sentinel), sum_dy(forward), sum_dy_xs(forward),
      backward(forward);
  uint64_t count = 999, backward_count = 999;
  kernels.PowerSums(x.slab(), oracle.r.data(), groups, valid, &count, forward.data());
  kernels.PowerGradSums(x.slab(), oracle.r.data(), groups, dy.slab(), valid, &backward_count,
                        sum_dy.data(), sum_dy_xs.data(), backward.data());
  ASSERT_EQ(count, oracle.count);
  ASSERT_EQ(backward_count, oracle.count);
  for (size_t c = 0; c < channels; ++c) {
    ASSERT_NEAR(forward[c], static_cast<double>(oracle.sum_x2[c]),
                tolerance.wide * oracle.sum_x2[c])
        << c;
    ASSERT_NEAR(backward[c], static_cast<double>(oracle.sum_x2[c]),
                tolerance.wide * oracle.sum_x2[c])
        << c;
    ASSERT_NEAR(sum_dy[c], static_cast<double>(oracle.sum_dy[c]),
                tolerance.wide * oracle.magnitude_dy[c])
        << c;
    ASSERT_NEAR(sum_dy_xs[c], static_cast<double>(oracle.sum_dy_xs[c]),
                tolerance.wide * oracle.magnitude_dy_xs[c])
        << c;
  }
}

void CheckMaps(const Kernels& kernels, Memory& x, Memory& dy, Memory& y, Memory& dx, int64_t groups,
               const uint8_t* valid, const Oracle& oracle, const Tolerance& tolerance) {
  kernels.PowerApply(x.slab(), oracle.r.data(), groups, oracle.scale.data(), oracle.shift.data(),
                     y.slab());
  kernels.PowerGrad(x.slab(), oracle.r.data(), groups, dy.slab(), valid, oracle.a.data(),
                    oracle.b.data(), dx.slab());
  for (size_t i = 0; i < x.elements(); ++i) {
    ASSERT_TRUE(Near(y.Get(i), oracle.y[i], tolerance, oracle.largest_y))
        << "y[" << i << "] = " << y.Get(i) << ", expected " << oracle.y[i];
    ASSERT_TRUE(Near(dx.Get(i), oracle.dx[i], tolerance, oracle.largest_dx))
        << "dx[" << i << "] = " << dx.Get(i) << ", expected " << oracle.dx[i];
  }
  // In place: equal bits.
  kernels.PowerGrad(x.slab(), oracle.r.data(), groups, dy.slab(), valid, oracle.a.data(),
                    oracle.b.data(), dy.slab());
  ASSERT_TRUE(dy.SameBytes(dx));
  kernels.PowerApply(x.slab(), oracle.r.data(), groups, oracle.scale.data(), oracle.shift.data(),
                     x.slab());
  ASSERT_TRUE(x.SameBytes(y));
  for (Memory* memory : {&x, &dy, &y, &dx}) ASSERT_TRUE(memory->PoisonIsIntact());
}

void CheckCase(DType dtype, const Grid& grid, int64_t groups, Mask mask, std::mt19937& random) {
  const std::vector<uint8_t> bytes = MaskOf(mask, grid.positions(), random);
  const uint8_t* valid = mask == Mask::kNone ? nullptr : bytes.data();
  std::normal_distribution<double> normal;
  Memory x(dtype, grid, 0), dy(dtype, grid, 0);
  for (size_t i = 0; i < x.elements(); ++i) {
    if (valid != nullptr && valid[i / static_cast<size_t>(grid.channels)] == 0) continue;
    x.Put(i, 2 * normal(random));
    dy.Put(i, normal(random));
  }
  const Oracle oracle(x, dy, grid, groups, valid);
  for (const Backend& backend : Backends()) {
    for (size_t skew : {0, 1}) {
      SCOPED_TRACE(testing::Message()
                   << backend.name() << ", " << Describe(grid) << ", groups " << groups << ", mask "
                   << static_cast<int>(mask) << ", skew " << skew);
      Memory my_x(dtype, grid, skew), my_dy(dtype, grid, skew);
      Memory y(dtype, grid, skew), dx(dtype, grid, skew);
      my_x.CopyFrom(x);
      my_dy.CopyFrom(dy);
      backend.Run([&](const Kernels& kernels) {
        ASSERT_NO_FATAL_FAILURE(
            CheckReductions(kernels, my_x, my_dy, groups, valid, oracle, ToleranceOf(dtype)));
        ASSERT_NO_FATAL_FAILURE(
            CheckMaps(kernels, my_x, my_dy, y, dx, groups, valid, oracle, ToleranceOf(dtype)));
      });
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

class PowerNormKernelsTest : public testing::TestWithParam<DType> {
 protected:
  // Every divisor of the channels, as far as `most`, is a number of groups.
  void CheckAll(const std::vector<Grid>& grids, int64_t most) {
    std::printf("seed %u\n", kSeed);
    std::mt19937 random(kSeed);
    for (const Grid& grid : grids) {
      for (int64_t groups = 1; groups <= std::min(grid.channels, most); ++groups) {
        if (grid.channels % groups != 0) continue;
        for (Mask mask : {Mask::kNone, Mask::kMost, Mask::kAllMasked}) {
          CheckCase(GetParam(), grid, groups, mask, random);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
};

TEST_P(PowerNormKernelsTest, TakesNoTokens) { CheckAll({{0, 3, 1}}, 3); }

TEST_P(PowerNormKernelsTest, TakesEveryNumberOfChannels) {
  std::vector<Grid> grids;
  for (int64_t channels = 1; channels <= 33; ++channels) grids.push_back({5, channels, 1});
  CheckAll(grids, 33);
}

TEST_P(PowerNormKernelsTest, TakesManyTokensAndWideOnes) {
  CheckAll({{1, 512, 1}, {600, 32, 1}, {1030, 6, 1}, {5, 2100, 1}, {1, 9000, 1}}, 4);
}

INSTANTIATE_TEST_SUITE_P(EveryDType, PowerNormKernelsTest, testing::ValuesIn(kDTypes), DTypeName);

}  // namespace
}  // namespace syncnorm::kernels
