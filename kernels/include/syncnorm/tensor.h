// A tensor, as the library sees one: memory of the caller, never owned, with a
// dtype, a shape and strides in elements.  The shape is always written with
// the channels second, (N, C, S1, S2, ...), whatever the order in memory; the
// strides say which it is.
//
// Two memory formats are supported, for any rank >= 2:
//   contiguous      strides of (N, C, S...) in row-major order
//   channels last   strides of (N, S..., C) in row-major order
// For a tensor of rank 2, or with one position a sample, they are the same.
//
// Thread-safety: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace syncnorm {

enum class DType : uint8_t { kF32 = 1, kF64 = 2, kF16 = 3, kBF16 = 4 };

// Bytes of one element.
size_t SizeOf(DType dtype);
// "f32", "f64", "f16", "bf16".
std::string_view Name(DType dtype);

struct ConstTensor {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;    // (N, C, S...), or (T, B, C) / (B, C) for PowerNorm
  std::vector<int64_t> strides;  // elements

  int64_t elements() const;
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;

  int64_t elements() const;
  operator ConstTensor() const {
    return {data, dtype, shape, strides};
  }  // NOLINT: a view of a view
};

// Strides, in elements, of a row-major (N, C, S...) tensor, and of one whose
// memory is row-major (N, S..., C).
std::vector<int64_t> ContiguousStrides(absl::Span<const int64_t> shape);
std::vector<int64_t> ChannelsLastStrides(absl::Span<const int64_t> shape);

Tensor Contiguous(void* data, DType dtype, std::vector<int64_t> shape);
Tensor ChannelsLast(void* data, DType dtype, std::vector<int64_t> shape);
ConstTensor Contiguous(const void* data, DType dtype, std::vector<int64_t> shape);
ConstTensor ChannelsLast(const void* data, DType dtype, std::vector<int64_t> shape);

// "f32 (8, 64, 28, 28) strides (50176, 784, 28, 1)", for error texts.
std::string Describe(const ConstTensor& tensor);

}  // namespace syncnorm
