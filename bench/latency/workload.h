// What every lane exchanges, and what must come back.
//
// The inputs depend on the rank and on a phase, and the phase changes with
// every round: a lane that hands out the result of another round, or of part
// of the group, cannot pass its check.
//
//   moments   for the lanes that fold:  count, mean (float64), M2 (a float32
//             value), and their fold computed by a formula that is not the one
//             the lanes use (a grand mean first, in long double).
//   sums      for the lanes that add:  2C+1 float32 integers below 2^10, so
//             that the sum over fewer than 2^14 workers is exact in any order.
//
// Thread-safety: pure functions, and ResultCheck, which is thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"

namespace syncnorm::bench {

// Rounds use the phases 0, 1, 2, 3, 0, ...  Two would do against a result that
// is one round late; four also catch one that is two or three late.
inline constexpr int kPhases = 4;

// Bytes of a contribution of the folding lanes: a float64 mean and a float32
// M2 per channel, and 64 bytes for the count and the round's key.
inline constexpr int64_t kFoldHeaderBytes = 64;
constexpr int64_t FoldPayloadBytes(int64_t channels) { return kFoldHeaderBytes + 12 * channels; }

// Bytes of a contribution of the adding lanes: count, sums, sums of squares.
constexpr int64_t SumPayloadBytes(int64_t channels) { return 4 * (2 * channels + 1); }

struct MomentRows {
  uint64_t count = 0;
  std::vector<double> mean;
  std::vector<float> m2;
};

MomentRows MakeMoments(int64_t channels, int rank, int phase);

// OK if (count, mean, m2) is the fold of ranks 0..workers-1: the count exactly,
// means to 1e-12 and M2 to 1e-6 relative (float64 and float32 carry 1.1e-16 and
// 6e-8; the inputs are of order 1 to 1e5 and no more than 64 are folded).
// Otherwise kDataLoss, naming the first channel that differs.
absl::Status CheckMoments(int workers, int phase, uint64_t count, absl::Span<const double> mean,
                          absl::Span<const double> m2);

std::vector<float> MakeSums(int64_t channels, int rank, int phase);

// OK if `sums` is exactly the sum of ranks 0..workers-1, else kDataLoss.
absl::Status CheckSums(int workers, int phase, absl::Span<const float> sums);

// Checks the result of every round without disturbing the next one: in full for
// the first result of each phase (some 100 us at C=2048 and W=8, as long as a
// round), and byte for byte against that one from then on (about 1 us).
class ResultCheck {
 public:
  // `result` is all that has to be the same whenever the phase comes again;
  // `in_full` says whether it is right.
  absl::Status Check(int phase, absl::Span<const char> result,
                     absl::FunctionRef<absl::Status()> in_full);

 private:
  std::array<std::vector<char>, kPhases> accepted_;  // empty: that phase was not seen yet
};

// The bytes of `values`, as ResultCheck wants them.
template <typename T>
absl::Span<const char> BytesOf(absl::Span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace syncnorm::bench
