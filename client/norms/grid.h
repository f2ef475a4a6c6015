// A trainer's tensor, checked and seen as the kernels see it.
//
// Callers may rely on: a tensor that these accept can be handed to any kernel.
// Its dtype is known, its sizes are not negative and their product fits in 63 bits,
// its strides are those of a supported memory format, and its data is aligned
// and not null where it has elements.  Strides along a dimension of size 1, and all
// strides of a tensor without elements, mean nothing and may have any value.
//
// Memory::kHost: a tensor in device memory is refused, where that can be told (host_memory.h).
// Memory::kDevice: where it lies is for the caller to check.
//
// Errors are kInvalidArgument; the text calls the tensor `what`, prints it, and
// says what is supported.
//
// Thread-safety: pure functions.
#pragma once

#include <syncnorm/moments.h>
#include <syncnorm/tensor.h>

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/kernels.h"

namespace syncnorm::norms {

enum class Memory : uint8_t { kHost, kDevice };

// (N, C, S...) with C == channels, rank >= 2, contiguous or channels last.
// Positions are numbered in row-major order of (N, S...) in both.
absl::StatusOr<kernels::Grid> GridOf(std::string_view what, const ConstTensor& tensor,
                                     int64_t channels, Memory memory = Memory::kHost);

// (T, B, C) or (B, C) with C == channels, contiguous.
// Positions are numbered in row-major order of (T, B).
absl::StatusOr<kernels::Grid> TokenGridOf(std::string_view what, const ConstTensor& tensor,
                                          int64_t channels, Memory memory = Memory::kHost);

// Whether `tensor` has the dtype, the shape and the order in memory of `x`, whose grid
// is `grid`, as every other tensor of a call must.
absl::Status CheckLike(std::string_view what, const ConstTensor& tensor, const ConstTensor& x,
                       const kernels::Grid& grid, Memory memory = Memory::kHost);

// What moments of such tensors travel as.
Precision PrecisionOf(DType dtype);

}  // namespace syncnorm::norms
