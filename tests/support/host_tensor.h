// HostTensor: a tensor with its own memory, of any dtype and memory format, filled
// from and read as plain numbers in one order: positions x channels, positions row-major
// in (N, S...) or (T, B).
//
// Memory is exactly as large as the tensor and begins as NaN, so that a sanitizer sees
// a step outside and a comparison sees what was never written.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/tensor.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace syncnorm::testing {

enum class Layout { kContiguous, kChannelsLast, kTokens };  // kTokens: (T, B, C) or (B, C)
std::string Name(Layout layout);

using Numbers = std::vector<double>;

class HostTensor {
 public:
  HostTensor(DType dtype, std::vector<int64_t> shape, Layout layout);
  // The same, filled with `numbers`, rounded to the dtype.
  HostTensor(DType dtype, std::vector<int64_t> shape, Layout layout, const Numbers& numbers);

  Tensor tensor();
  ConstTensor tensor() const;
  int64_t positions() const;
  int64_t channels() const;
  void Store(const Numbers& numbers);
  Numbers Load() const;  // exact
  const std::vector<std::byte>& bytes() const { return memory_; }

 private:
  size_t IndexOf(int64_t position, int64_t channel) const;

  DType dtype_;
  std::vector<int64_t> shape_;
  Layout layout_;
  std::vector<std::byte> memory_;
};

// Half the distance of 1 to the next number: the largest relative error of a rounding.
double UnitRoundoff(DType dtype);

// Normally distributed numbers.
Numbers Normal(std::mt19937_64* random, size_t count, double mean = 0, double deviation = 1);

// The pieces, one after the other.
Numbers Concatenate(const std::vector<Numbers>& pieces);

}  // namespace syncnorm::testing
