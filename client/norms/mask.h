// Masks of a trainer, checked and turned into the kernels' form: one byte a
// position, 1 = counts; empty where no position is masked out.
//
// Errors are kInvalidArgument and name the shape, or the value and its position.
//
// Thread-safety: pure functions.
#pragma once

#include <syncnorm/batch_norm.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace syncnorm::norms {

// As the kernels want it.
inline const uint8_t* DataOrNull(const std::vector<uint8_t>& valid) {
  return valid.empty() ? nullptr : valid.data();
}

// Whether the mask is one for (N, C, S...) of `positions`, whatever its values.
absl::Status CheckMask(const PositionMask& mask, absl::Span<const int64_t> shape,
                       int64_t positions);

// `mask` may be null (everything counts).  `shape` is (N, C, S...), of `positions`.
absl::StatusOr<std::vector<uint8_t>> ValidPositions(const PositionMask* mask,
                                                    absl::Span<const int64_t> shape,
                                                    int64_t positions);

// `pad_mask` may be null, or is `samples` x `times` bytes, 1 = padding; the result is
// in the order of (T, B).
absl::StatusOr<std::vector<uint8_t>> ValidTokens(const uint8_t* pad_mask, int64_t times,
                                                 int64_t samples);

}  // namespace syncnorm::norms
