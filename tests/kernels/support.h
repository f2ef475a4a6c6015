// What the kernel tests share.
//
//   Backends()  the backends under test.  The test sources are linked once with
//               cpu_backends.cc (the scalar definition, and the SIMD body once for each
//               instruction set the CPU has) and once with cuda/cuda_backends.cc.
//   Memory      a tensor's memory with poison around it, read without the code
//               under test.
//   Tolerance   the bounds of each dtype.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/element.h"
#include "kernels/kernels.h"
#include "tests/kernels/half_format.h"

namespace syncnorm::kernels {

// ---- Backends ------------------------------------------------------------------

// A backend by name; Run() calls a test's body with it.
class Backend {
 public:
  using Body = std::function<void(const Kernels&)>;
  Backend(std::string name, std::function<void(const Body&)> run)
      : name_(std::move(name)), run_(std::move(run)) {}

  const std::string& name() const { return name_; }
  void Run(const Body& body) const { run_(body); }

 private:
  std::string name_;
  std::function<void(const Body&)> run_;
};

// Not empty.
std::vector<Backend> Backends();

// ---- Memory ---------------------------------------------------------------------

// Reads what a kernel wrote by the tests' own decoding of half precision.
inline double GetElement(DType dtype, const void* data, size_t at) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[at];
    case DType::kF64:
      return static_cast<const double*>(data)[at];
    case DType::kF16:
      return kF16Format.Value(static_cast<const uint16_t*>(data)[at]);
    case DType::kBF16:
      return kBF16Format.Value(static_cast<const uint16_t*>(data)[at]);
  }
  return 0;
}

// A tensor's memory.  With a skew of 0 it is aligned to 64 bytes and is all of
// its allocation, for AddressSanitizer to see what is touched beyond.  Otherwise
// it begins `skew` elements behind such an address, with NaN before and behind
// it, which would show in any result it got into.
class Memory {
 public:
  Memory(DType dtype, const Grid& grid, size_t skew)
      : dtype_(dtype),
        grid_(grid),
        elements_(static_cast<size_t>(grid.positions() * grid.channels)),
        before_(skew == 0 ? 0 : kPoison + skew),
        total_(before_ + elements_ + (skew == 0 ? 0 : kPoison)) {
    void* data = nullptr;
    EXPECT_EQ(posix_memalign(&data, 64, total_ * SizeOf(dtype)), 0);
    all_.reset(data);
    for (size_t i = 0; i < total_; ++i) {
      WriteElement(dtype, data, i, std::numeric_limits<double>::quiet_NaN());
    }
    poison_.assign(static_cast<uint8_t*>(data), static_cast<uint8_t*>(data) + bytes(total_));
  }

  uint8_t* data() { return static_cast<uint8_t*>(all_.get()) + bytes(before_); }
  Slab slab() { return {data(), dtype_, grid_}; }
  size_t elements() const { return elements_; }

  void Put(size_t at, double value) { WriteElement(dtype_, data(), at, value); }
  double Get(size_t at) { return GetElement(dtype_, data(), at); }
  void CopyFrom(Memory& other) { std::memcpy(data(), other.data(), bytes(elements_)); }
  bool SameBytes(Memory& other) { return std::memcmp(data(), other.data(), bytes(elements_)) == 0; }

  // Is what lies around the tensor as it was?
  bool PoisonIsIntact() {
    const uint8_t* all = static_cast<const uint8_t*>(all_.get());
    const size_t end = bytes(before_ + elements_);
    return std::equal(all, all + bytes(before_), poison_.begin()) &&
           std::equal(all + end, all + bytes(total_), poison_.begin() + end);
  }

 private:
  static constexpr size_t kPoison = 64;  // elements: a whole vector of any target
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  size_t bytes(size_t elements) const { return elements * SizeOf(dtype_); }

  DType dtype_;
  Grid grid_;
  size_t elements_, before_, total_;
  std::unique_ptr<void, Free> all_;
  std::vector<uint8_t> poison_;
};

// ---- Cases ---------------------------------------------------------------------

// One way to mask positions.
enum class Mask { kNone, kAllValid, kMost, kFew, kAllMasked };
inline constexpr Mask kMasks[] = {Mask::kNone, Mask::kAllValid, Mask::kMost, Mask::kFew,
                                  Mask::kAllMasked};

// Bytes other than 1 are valid too.
inline std::vector<uint8_t> MaskOf(Mask mask, int64_t positions, std::mt19937& random) {
  std::vector<uint8_t> valid(static_cast<size_t>(positions));
  for (uint8_t& v : valid) {
    const uint32_t draw = random() % 16;
    const bool ok = mask == Mask::kAllValid || (mask == Mask::kMost && draw != 0) ||
                    (mask == Mask::kFew && draw == 0);
    v = ok ? static_cast<uint8_t>(1 + random() % 255) : 0;
  }
  return valid;
}

// What the arithmetic of a dtype may cost: relative to the largest value or the
// sum of magnitudes (`wide`), and for rounding a result on store (`store`),
// relative to it, but at least the smallest subnormal.
struct Tolerance {
  double wide, variance, store, subnormal;
};

inline Tolerance ToleranceOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return {2e-6, 1e-5, 0x1p-24, 0x1p-149};
    case DType::kF64:
      return {1e-14, 1e-12, 0x1p-53, 0};
    case DType::kF16:
      return {2e-6, 1e-5, 0x1p-11, 0x1p-24};
    case DType::kBF16:
      return {2e-6, 1e-5, 0x1p-8, 0x1p-133};
  }
  return {};
}

// Holds an element against its oracle.
inline bool Near(double got, long double expected, const Tolerance& tolerance,
                 long double largest) {
  if (std::isnan(expected)) return std::isnan(got);
  const long double bound =
      tolerance.wide * largest + 1.001 * tolerance.store * fabsl(expected) + tolerance.subnormal;
  return fabsl(got - expected) <= bound;
}

inline std::string Describe(const Grid& grid) {
  return std::to_string(grid.outer) + " x " + std::to_string(grid.channels) + " x " +
         std::to_string(grid.inner);
}

// The dtypes, and their names as the suffixes of parametrised tests.
inline constexpr DType kDTypes[] = {DType::kF32, DType::kF64, DType::kF16, DType::kBF16};
inline std::string DTypeName(const testing::TestParamInfo<DType>& info) {
  return std::string(Name(info.param));
}

}  // namespace syncnorm::kernels
