// Moments: what a worker knows about its slice of a batch, per channel, and
// all that ever crosses the network.  A value type.
//
//   kind      rows              merged by
//   kMeanM2   mean, M2          Chan's update: M2 is the sum of squared
//                               deviations from this slice's own mean
//   kSums     any number        addition
//
// count is the number of positions per channel that the rows stand for.  It is
// an integer of 64 bits end to end; it never travels as a float.
//
// Folding.  `Fold` is the one canonical merge of the project: the coordinator,
// the local path and every test call it.  All arithmetic is float64.  The
// order in which a group folds is fixed by host and rank (server/aggregator.h),
// never by arrival, so equal contributions give equal bytes.
//
// Precision.  A round's values travel as float64 (kF64), or rounded to float32
// (kF32) for tensors of f32, f16 and bf16.  Means always travel as float64:
// with a mean of 1e4 and a deviation of 1 a float32 mean alone would cost
// 2e-5 of the variance.  `RoundToWire` is that rounding; the local path calls
// it too, so that a worker alone computes bit for bit what a group of one does.
//
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace syncnorm {

enum class MomentKind : uint8_t { kMeanM2 = 1, kSums = 2 };
enum class Precision : uint8_t { kF32 = 1, kF64 = 2 };

std::string_view Name(MomentKind kind);      // "mean_m2", "sums"
std::string_view Name(Precision precision);  // "f32", "f64"

struct Moments {
  MomentKind kind = MomentKind::kSums;
  Precision precision = Precision::kF64;
  int64_t channels = 0;
  int64_t rows = 0;  // 2 for kMeanM2: mean, then M2
  uint64_t count = 0;
  std::vector<double> values;  // rows x channels, row-major

  static Moments MeanM2(int64_t channels, Precision precision);              // zeros, count 0
  static Moments Sums(int64_t rows, int64_t channels, Precision precision);  // zeros, count 0

  absl::Span<double> row(int64_t r) {
    return absl::MakeSpan(values).subspan(r * channels, channels);
  }
  absl::Span<const double> row(int64_t r) const {
    return absl::MakeConstSpan(values).subspan(r * channels, channels);
  }
  friend bool operator==(const Moments&, const Moments&) = default;
};

// Folds `part` into `total`, which has the same kind, rows and channels.
//   kMeanM2: a side whose count is 0 leaves the other as it is, bit for bit.
//   kSums:   always added.
// The caller has checked the shapes (a bug otherwise: CHECK).  Returns
// kOutOfRange, and leaves `total` alone, when the counts overflow 64 bits.
absl::Status Fold(const Moments& part, Moments* total);

// Rounds the rows that travel as float32 (see above) to float32.
void RoundToWire(Moments* moments);

}  // namespace syncnorm
