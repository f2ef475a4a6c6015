#include "bench/latency/workload.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace syncnorm::bench {
namespace {

uint64_t CountOf(int rank) { return 512 + 64 * static_cast<uint64_t>(rank); }

double MeanOf(int64_t channel, int rank, int phase) {
  return static_cast<double>((channel * 37 + rank * 11 + phase * 5) % 97) * 0.125 - 6.0;
}

float M2Of(int64_t channel, int rank, int phase) {
  return static_cast<float>((channel * 13 + rank * 7 + phase * 3) % 61 + 1);
}

float SumOf(int64_t index, int rank, int phase) {
  return static_cast<float>((index * 31 + rank * 17 + phase * 7) % 1000);
}

bool Near(double got, long double want, double tolerance) {
  return std::fabs(static_cast<double>(got - want)) <=
         tolerance * std::fmax(1.0, std::fabs(static_cast<double>(want)));
}

absl::Status Differs(const char* what, int64_t index, double got, double want) {
  return absl::DataLossError(
      absl::StrCat("verification failed: ", what, "[", index, "] is ", got, ", expected ", want));
}

}  // namespace

MomentRows MakeMoments(int64_t channels, int rank, int phase) {
  MomentRows rows;
  rows.count = CountOf(rank);
  rows.mean.resize(channels);
  rows.m2.resize(channels);
  for (int64_t c = 0; c < channels; ++c) {
    rows.mean[c] = MeanOf(c, rank, phase);
    rows.m2[c] = M2Of(c, rank, phase);
  }
  return rows;
}

absl::Status CheckMoments(int workers, int phase, uint64_t count, absl::Span<const double> mean,
                          absl::Span<const double> m2) {
  uint64_t total = 0;
  for (int r = 0; r < workers; ++r) total += CountOf(r);
  if (count != total) {
    return absl::DataLossError(
        absl::StrCat("verification failed: count is ", count, ", expected ", total));
  }
  for (int64_t c = 0; c < static_cast<int64_t>(mean.size()); ++c) {
    long double weighted = 0;
    for (int r = 0; r < workers; ++r) weighted += CountOf(r) * (long double){MeanOf(c, r, phase)};
    const long double grand_mean = weighted / total;
    long double squares = 0;
    for (int r = 0; r < workers; ++r) {
      const long double deviation = MeanOf(c, r, phase) - grand_mean;
      squares += M2Of(c, r, phase) + CountOf(r) * deviation * deviation;
    }
    if (!Near(mean[c], grand_mean, 1e-12)) {
      return Differs("mean", c, mean[c], static_cast<double>(grand_mean));
    }
    if (!Near(m2[c], squares, 1e-6)) return Differs("M2", c, m2[c], static_cast<double>(squares));
  }
  return absl::OkStatus();
}

std::vector<float> MakeSums(int64_t channels, int rank, int phase) {
  std::vector<float> sums(2 * channels + 1);
  for (int64_t i = 0; i < static_cast<int64_t>(sums.size()); ++i) sums[i] = SumOf(i, rank, phase);
  return sums;
}

absl::Status CheckSums(int workers, int phase, absl::Span<const float> sums) {
  for (int64_t i = 0; i < static_cast<int64_t>(sums.size()); ++i) {
    float want = 0;
    for (int r = 0; r < workers; ++r) want += SumOf(i, r, phase);
    if (sums[i] != want) return Differs("sum", i, sums[i], want);
  }
  return absl::OkStatus();
}

absl::Status ResultCheck::Check(int phase, absl::Span<const char> result,
                                absl::FunctionRef<absl::Status()> in_full) {
  std::vector<char>& accepted = accepted_[phase];
  if (accepted.empty()) {
    if (absl::Status status = in_full(); !status.ok()) return status;
    accepted.assign(result.begin(), result.end());
  } else if (!std::equal(result.begin(), result.end(), accepted.begin(), accepted.end())) {
    return absl::DataLossError(
        "verification failed: equal contributions gave different bytes in two rounds");
  }
  return absl::OkStatus();
}

}  // namespace syncnorm::bench
