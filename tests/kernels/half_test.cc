#include "kernels/half.h"

#include <cmath>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"
#include "tests/kernels/half_format.h"

namespace syncnorm::kernels {
namespace {

struct Conversion {
  const char* name;
  HalfFormat format;
  float (*widen)(uint16_t);
  uint16_t (*narrow)(double);
};

class HalfTest : public testing::TestWithParam<Conversion> {};

TEST_P(HalfTest, WidensEveryPatternExactly) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double expected = GetParam().format.Value(static_cast<uint16_t>(bits));
    const float got = GetParam().widen(static_cast<uint16_t>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got)) << bits;
    } else {
      ASSERT_EQ(got, expected) << bits;
      ASSERT_EQ(std::signbit(got), std::signbit(expected)) << bits;
    }
  }
}

TEST_P(HalfTest, NarrowsEveryPatternBackToItself) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double value = GetParam().format.Value(static_cast<uint16_t>(bits));
    const uint16_t got = GetParam().narrow(value);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(GetParam().format.Value(got))) << bits;
    } else {
      ASSERT_EQ(got, bits);
    }
  }
}

// All neighbours a < b of one sign: their middle goes to the even one, and the
// doubles just beside it to the nearer one.
TEST_P(HalfTest, RoundsBetweenAllNeighboursToNearestEven) {
  const HalfFormat& format = GetParam().format;
  for (uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t bits = 0; bits < 0x7FFF; ++bits) {
      const uint16_t low = static_cast<uint16_t>(sign | bits);
      const uint16_t high = static_cast<uint16_t>(low + 1);
      const double a = format.Value(low);
      double b = format.Value(high);
      if (!std::isfinite(a)) break;
      if (std::isinf(b)) {  // where the next value would be, had the format one more
        b = std::copysign(std::ldexp(1.0, format.bias() + 1), a);
      }
      const double middle = (a + b) / 2;
      ASSERT_EQ(GetParam().narrow(middle), bits % 2 == 0 ? low : high) << low;
      ASSERT_EQ(GetParam().narrow(std::nextafter(middle, a)), low) << low;
      ASSERT_EQ(GetParam().narrow(std::nextafter(middle, b)), high) << low;
    }
  }
}

TEST_P(HalfTest, TooLargeBecomesInfinityAndTooSmallBecomesZero) {
  const HalfFormat& format = GetParam().format;
  for (double huge : {1e39, 1e300, std::numeric_limits<double>::max()}) {
    EXPECT_EQ(format.Value(GetParam().narrow(huge)), std::numeric_limits<double>::infinity());
    EXPECT_EQ(format.Value(GetParam().narrow(-huge)), -std::numeric_limits<double>::infinity());
  }
  for (double tiny : {1e-60, 1e-300, std::numeric_limits<double>::denorm_min()}) {
    EXPECT_EQ(GetParam().narrow(tiny), 0);
    EXPECT_EQ(GetParam().narrow(-tiny), 0x8000);
  }
}

INSTANTIATE_TEST_SUITE_P(BothFormats, HalfTest,
                         testing::Values(Conversion{"f16", kF16Format, F32FromF16, F16FromDouble},
                                         Conversion{"bf16", kBF16Format, F32FromBF16,
                                                    BF16FromDouble}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace syncnorm::kernels
