// The statistics of data that is hard on float32, on every backend: the bounds
// of docs/numerics.md.
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/support.h"

namespace syncnorm::kernels {
namespace {

constexpr uint32_t kSeed = 20240302;

// One of every way to walk a grid: long runs, short runs as columns, few rows of
// short runs, channels last with narrow, middling and wide rows.
const Grid kGrids[] = {{4, 2, 3136}, {2, 2, 20000}, {16, 3, 49},  {3, 2, 49},
                       {5000, 3, 1}, {1300, 70, 1}, {40, 1500, 1}};

// value(index within the channel) of every element.
using Value = std::function<double(int64_t)>;

void Fill(const Value& value, Memory* x, const Grid& grid) {
  for (int64_t c = 0; c < grid.channels; ++c) {
    for (int64_t p = 0; p < grid.positions(); ++p) {
      const int64_t o = p / grid.inner, i = p % grid.inner;
      x->Put(static_cast<size_t>((o * grid.channels + c) * grid.inner + i), value(p));
    }
  }
}

struct Statistics {
  uint64_t count = 0;
  std::vector<double> mean, m2;
};

Statistics Of(const Kernels& kernels, const ConstSlab& x, const uint8_t* valid = nullptr) {
  Statistics s;
  s.mean.resize(static_cast<size_t>(x.grid.channels));
  s.m2.resize(static_cast<size_t>(x.grid.channels));
  kernels.MeanM2(x, valid, &s.count, s.mean.data(), s.m2.data());
  return s;
}

// Holds the variance of every channel to a relative error, on every backend.
void ExpectVariances(DType dtype, double bound, const Value& value) {
  for (const Grid& grid : kGrids) {
    Memory x(dtype, grid, 1);
    Fill(value, &x, grid);
    std::vector<long double> m2(static_cast<size_t>(grid.channels));
    const long double n = static_cast<long double>(grid.positions());
    for (int64_t c = 0; c < grid.channels; ++c) {
      long double mean = 0;
      const auto at = [&](int64_t p) {
        return static_cast<long double>(x.Get(static_cast<size_t>(
            (p / grid.inner * grid.channels + c) * grid.inner + p % grid.inner)));
      };
      for (int64_t p = 0; p < grid.positions(); ++p) mean += at(p);
      mean /= n;
      for (int64_t p = 0; p < grid.positions(); ++p) {
        m2[c] += (at(p) - mean) * (at(p) - mean);
      }
    }
    for (const Backend& backend : Backends()) {
      SCOPED_TRACE(testing::Message() << backend.name() << ", " << Describe(grid));
      backend.Run([&](const Kernels& kernels) {
        const Statistics got = Of(kernels, x.slab());
        for (size_t c = 0; c < m2.size(); ++c) {
          ASSERT_NEAR(static_cast<double>(got.m2[c] / m2[c]), 1, bound) << "channel " << c;
        }
      });
    }
  }
}

Value Normal(double mean, double deviation) {
  std::printf("seed %u\n", kSeed);
  auto random = std::make_shared<std::mt19937>(kSeed);
  auto normal = std::make_shared<std::normal_distribution<double>>(mean, deviation);
  return [=](int64_t) { return (*normal)(*random); };
}

TEST(MeanM2Test, SurvivesAMeanFarLargerThanTheDeviation) {
  ExpectVariances(DType::kF32, 1e-5, Normal(1e4, 1));
  ExpectVariances(DType::kF32, 1e-5, Normal(1000, 0.1));
  ExpectVariances(DType::kF32, 1e-5, Normal(-1e6, 1));
}

TEST(MeanM2Test, KeepsTinyVariances) {
  ExpectVariances(DType::kF32, 1e-5, Normal(0, 1e-4));
  ExpectVariances(DType::kF32, 1e-5, Normal(0, 1e-5));
  ExpectVariances(DType::kF32, 1e-5, Normal(0.01, 1e-5));
}

TEST(MeanM2Test, IsExactToTwelveDigitsInDouble) {
  ExpectVariances(DType::kF64, 1e-12, Normal(1e4, 1));
  ExpectVariances(DType::kF64, 1e-12, Normal(0, 1e-5));
}

TEST(MeanM2Test, SurvivesAnOutlierWhereverItIs) {
  for (int64_t outlier : {0, 1, 17, 48}) {
    for (double size : {1e2, 1e4, 1e6, 1e15}) {
      const Value normal = Normal(0, 1);
      ExpectVariances(DType::kF32, 1e-5,
                      [&](int64_t p) { return p == outlier ? size : normal(p); });
    }
  }
}

TEST(MeanM2Test, SurvivesALevelThatChangesFromBlockToBlock) {
  ExpectVariances(DType::kF32, 1e-5, [](int64_t p) { return p < 20 ? 1e6 : 1e-3 * (p % 7); });
  ExpectVariances(DType::kF32, 1e-5, [](int64_t p) { return 100.0 * static_cast<double>(p); });
  const Value normal = Normal(0, 1e-3);
  ExpectVariances(DType::kF32, 1e-5,
                  [&](int64_t p) { return (p / 1000 % 2 ? 1e4 : -1e4) + normal(p); });
}

TEST(MeanM2Test, SurvivesTwoLevelsOnly) {
  ExpectVariances(DType::kF32, 1e-5, [](int64_t p) { return p % 2 ? 0.1 : -0.3; });
  ExpectVariances(DType::kF32, 1e-5, [](int64_t p) { return p % 3 ? 1e4 : 1e4 + 0.5; });
}

TEST(MeanM2Test, ConstantChannelsHaveExactlyNoM2) {
  for (DType dtype : kDTypes) {
    for (double value : {0.1, -3.3, 1e4, 0.0, 6e4, 1e-6}) {
      for (const Grid& grid : kGrids) {
        Memory x(dtype, grid, 1);
        Fill([&](int64_t) { return value; }, &x, grid);
        for (const Backend& backend : Backends()) {
          backend.Run([&](const Kernels& kernels) {
            const Statistics got = Of(kernels, x.slab());
            for (size_t c = 0; c < got.m2.size(); ++c) {
              ASSERT_EQ(got.m2[c], 0) << backend.name() << ", " << Describe(grid);
              ASSERT_EQ(got.mean[c], x.Get(0)) << backend.name() << ", " << Describe(grid);
            }
          });
        }
      }
    }
  }
}

TEST(MeanM2Test, HugeDoublesDoNotOverflowWhereTheirDeviationsDoNot) {
  for (const Grid& grid : kGrids) {
    Memory x(DType::kF64, grid, 1);
    Fill([](int64_t) { return 1e200; }, &x, grid);
    for (const Backend& backend : Backends()) {
      backend.Run([&](const Kernels& kernels) { EXPECT_EQ(Of(kernels, x.slab()).m2[0], 0); });
    }
  }
}

// NaN and infinity at valid positions show in their own channel, and nowhere else.
TEST(MeanM2Test, PassesNonFiniteValuesOnAsNaN) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (double bad : {std::nan(""), infinity, -infinity}) {
    for (const Grid& grid : kGrids) {
      for (int64_t where : {int64_t{0}, int64_t{5}, grid.positions() - 1}) {
        const Value normal = Normal(0, 1);
        Memory x(DType::kF32, grid, 1);
        Fill(normal, &x, grid);
        x.Put(static_cast<size_t>(where / grid.inner * grid.channels * grid.inner +
                                  where % grid.inner),
              bad);
        for (const Backend& backend : Backends()) {
          backend.Run([&](const Kernels& kernels) {
            const Statistics got = Of(kernels, x.slab());
            EXPECT_TRUE(std::isnan(got.m2[0])) << backend.name() << ", " << Describe(grid);
            EXPECT_FALSE(std::isfinite(got.mean[0])) << backend.name() << ", " << Describe(grid);
            for (size_t c = 1; c < got.m2.size(); ++c) {
              ASSERT_TRUE(std::isfinite(got.m2[c])) << backend.name() << ", " << Describe(grid);
            }
          });
        }
      }
    }
  }
}

TEST(MeanM2Test, OnePositionHasNoDeviation) {
  for (const Grid& grid : {Grid{1, 5, 1}, Grid{1, 5, 300}}) {
    Memory x(DType::kF32, grid, 1);
    std::vector<uint8_t> valid(static_cast<size_t>(grid.positions()));
    valid.back() = 1;
    for (size_t i = 0; i < x.elements(); ++i) {
      if ((i + 1) % static_cast<size_t>(grid.inner) == 0) x.Put(i, 0.1 * static_cast<double>(i));
    }
    for (const Backend& backend : Backends()) {
      backend.Run([&](const Kernels& kernels) {
        const Statistics got = Of(kernels, x.slab(), valid.data());
        EXPECT_EQ(got.count, 1u);
        for (int64_t c = 0; c < grid.channels; ++c) {
          EXPECT_EQ(got.m2[c], 0);
          EXPECT_EQ(got.mean[c], x.Get(static_cast<size_t>((c + 1) * grid.inner - 1)));
        }
      });
    }
  }
}

// y stays within 2e-6 of its largest value for a mean of 1e4 that float32 cannot
// hold to more than 1e-3.
TEST(AffineTest, SurvivesACenterFarLargerThanTheDeviation) {
  const double center = 10000.00031;
  for (const Grid& grid : kGrids) {
    Memory x(DType::kF32, grid, 1), y(DType::kF32, grid, 1), dx(DType::kF32, grid, 1);
    Fill(Normal(1e4, 1), &x, grid);
    const size_t channels = static_cast<size_t>(grid.channels);
    const std::vector<double> centers(channels, center), ones(channels, 1), zeros(channels, 0);
    for (const Backend& backend : Backends()) {
      SCOPED_TRACE(testing::Message() << backend.name() << ", " << Describe(grid));
      backend.Run([&](const Kernels& kernels) {
        kernels.Affine(x.slab(), nullptr, centers.data(), ones.data(), zeros.data(), y.slab());
        kernels.Grad(x.slab(), x.slab(), nullptr, centers.data(), zeros.data(), ones.data(),
                     zeros.data(), dx.slab());
        for (size_t i = 0; i < x.elements(); ++i) {
          ASSERT_NEAR(y.Get(i), x.Get(i) - center, 4 * 2e-6);  // the largest is about 4
          ASSERT_NEAR(dx.Get(i), x.Get(i) - center, 4 * 2e-6);
        }
      });
    }
  }
}

TEST(StoreTest, RoundsToNearestEvenInEverySixteenBitFormat) {
  std::printf("seed %u\n", kSeed);
  std::mt19937 random(kSeed);
  const Grid grid{1, 1, 4096};
  const double zero = 0, one = 1;
  for (DType dtype : {DType::kF16, DType::kBF16}) {
    const HalfFormat& format = dtype == DType::kF16 ? kF16Format : kBF16Format;
    Memory x(dtype, grid, 1), y(dtype, grid, 1);
    for (size_t i = 0; i < x.elements(); ++i) {
      const double draw = format.Value(static_cast<uint16_t>(random()));
      x.Put(i, draw);
    }
    // 1.5 ulp of most values: a tie for half of them.
    const double scale = 1.5;
    for (const Backend& backend : Backends()) {
      backend.Run([&](const Kernels& kernels) {
        kernels.Affine(x.slab(), nullptr, &zero, &scale, &zero, y.slab());
        for (size_t i = 0; i < x.elements(); ++i) {
          const double exact = x.Get(i) * scale;
          if (std::isnan(exact)) {
            ASSERT_TRUE(std::isnan(y.Get(i))) << backend.name();
            continue;
          }
          Memory expected(dtype, {1, 1, 1}, 0);
          expected.Put(0, exact);
          ASSERT_EQ(y.Get(i), expected.Get(0)) << backend.name() << " of " << x.Get(i);
        }
        kernels.Affine(x.slab(), nullptr, &zero, &one, &zero, y.slab());
        for (size_t i = 0; i < x.elements(); ++i) {
          if (std::isnan(x.Get(i))) continue;
          ASSERT_EQ(y.Get(i), x.Get(i)) << backend.name();
        }
      });
    }
  }
}

}  // namespace
}  // namespace syncnorm::kernels
