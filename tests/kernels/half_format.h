// The values of 16-bit floats by their definition (sign, power of two, mantissa),
// written independently of kernels/half.h, for tests to compare with.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace syncnorm {

struct HalfFormat {
  int exponent_bits;
  int mantissa_bits;

  int bias() const { return (1 << (exponent_bits - 1)) - 1; }

  double Value(uint16_t bits) const {
    const double sign = bits & 0x8000 ? -1 : 1;
    const int exponent = (bits & 0x7FFF) >> mantissa_bits;
    const int mantissa = bits & ((1 << mantissa_bits) - 1);
    if (exponent == (1 << exponent_bits) - 1) {
      return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                           : sign * std::numeric_limits<double>::infinity();
    }
    if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias() - mantissa_bits);
    return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias() - mantissa_bits);
  }
};

inline constexpr HalfFormat kF16Format{5, 10};
inline constexpr HalfFormat kBF16Format{8, 7};

}  // namespace syncnorm
