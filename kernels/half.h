// The two 16-bit floats, f16 (IEEE 754 binary16) and bf16 (the upper half of a
// float32), as bit patterns in a uint16_t.
//
//   To float:    exact.
//   From double: rounded once, to nearest, ties to even.  Subnormals are kept,
//                what is too large becomes infinity, NaN stays NaN (quiet).
//                A float converts exactly to double first, so this is also the
//                rounding of a float.
//
// Thread-safety: pure functions.
#pragma once

#include <bit>
#include <cstdint>

namespace syncnorm::kernels {

// Rounds to a format of one sign bit, then kExponentBits, then kMantissaBits.
template <int kExponentBits, int kMantissaBits>
uint16_t NarrowTo(double value) {
  static_assert(1 + kExponentBits + kMantissaBits == 16);
  constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  constexpr uint64_t kInfinity = ((uint64_t{1} << kExponentBits) - 1) << kMantissaBits;
  constexpr uint64_t kQuiet = uint64_t{1} << (kMantissaBits - 1);
  constexpr int kDropped = 52 - kMantissaBits;  // a double has 52 bits of mantissa

  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const uint16_t sign = static_cast<uint16_t>(bits >> 63 << 15);
  const uint64_t magnitude = bits & ~(uint64_t{1} << 63);
  const uint64_t mantissa = magnitude & ((uint64_t{1} << 52) - 1);
  const int exponent = static_cast<int>(magnitude >> 52) - 1023;
  if (exponent == 1024 && mantissa != 0) {
    return static_cast<uint16_t>(sign | kInfinity | kQuiet | (mantissa >> kDropped));
  }
  if (exponent > kBias) return static_cast<uint16_t>(sign | kInfinity);

  // Normal results keep the exponent in front of the mantissa, so that rounding
  // up carries into it; subnormal ones shift the leading one in instead.
  uint64_t kept = magnitude - (static_cast<uint64_t>(1023 - kBias) << 52);
  int dropped = kDropped;
  if (exponent < 1 - kBias) {
    kept = mantissa | uint64_t{1} << 52;
    dropped += 1 - kBias - exponent;
    if (dropped > 53) return sign;  // less than half of the smallest subnormal
  }
  const uint64_t below_half = (uint64_t{1} << (dropped - 1)) - 1;
  const uint64_t odd = kept >> dropped & 1;
  return static_cast<uint16_t>(sign | (kept + below_half + odd) >> dropped);
}

inline uint16_t F16FromDouble(double value) { return NarrowTo<5, 10>(value); }
inline uint16_t BF16FromDouble(double value) { return NarrowTo<8, 7>(value); }

inline float F32FromBF16(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

inline float F32FromF16(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = half >> 10 & 0x1F;
  const uint32_t mantissa = half & 0x3FF;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in float32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 0x1F) {
    const uint32_t quiet = mantissa != 0 ? 0x400000 : 0;
    return std::bit_cast<float>(sign | 0x7F800000 | quiet | mantissa << 13);
  }
  return std::bit_cast<float>(sign | (exponent + 127 - 15) << 23 | mantissa << 13);
}

}  // namespace syncnorm::kernels
