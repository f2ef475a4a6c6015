// Histogram: how many durations fell between fixed bounds, and their sum.  It
// only grows, so that what came between two looks at it is a difference.
//
// Quantiles are estimated as Prometheus' histogram_quantile does: linear between a
// bucket's bounds, and the highest bound for what lies beyond it.  So whoever asks here and
// whoever asks Prometheus reads the same figure.
//
// Thread-safety: plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"

namespace syncnorm::server {

// `kBoundsNs`: a std::array of nanoseconds, increasing, above 0: the upper bounds of the buckets.
// One more is for what is longer still.
template <const auto& kBoundsNs>
class Histogram {
 public:
  static constexpr size_t kBounds = kBoundsNs.size();
  static constexpr size_t kBuckets = kBounds + 1;

  static absl::Duration Bound(size_t bucket) { return absl::Nanoseconds(kBoundsNs[bucket]); }

  void Add(absl::Duration value) {
    // Integers compare faster than Durations, and this is done for every contribution.
    const int64_t value_ns = absl::ToInt64Nanoseconds(value);
    size_t bucket = 0;
    while (bucket < kBounds && value_ns > kBoundsNs[bucket]) ++bucket;
    ++buckets_[bucket];
    ++count_;
    sum_ += value;
  }

  uint64_t count() const { return count_; }
  absl::Duration sum() const { return sum_; }
  const std::array<uint64_t, kBuckets>& buckets() const { return buckets_; }

  // What came since; `earlier` is an older copy of this one.
  Histogram Since(const Histogram& earlier) const {
    Histogram since = *this;
    for (size_t i = 0; i < kBuckets; ++i) since.buckets_[i] -= earlier.buckets_[i];
    since.count_ -= earlier.count_;
    since.sum_ -= earlier.sum_;
    return since;
  }
  void Merge(const Histogram& other) {
    for (size_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    sum_ += other.sum_;
  }

  // 0 <= q <= 1.  None of an empty one.
  std::optional<absl::Duration> Quantile(double q) const {
    if (count_ == 0) return std::nullopt;
    const double wanted = q * static_cast<double>(count_);
    double before = 0;
    size_t bucket = 0;
    while (bucket < kBounds && before + static_cast<double>(buckets_[bucket]) < wanted) {
      before += static_cast<double>(buckets_[bucket++]);
    }
    if (bucket == kBounds) return Bound(kBounds - 1);
    const absl::Duration low = bucket == 0 ? absl::ZeroDuration() : Bound(bucket - 1);
    if (buckets_[bucket] == 0) return low;  // q is 0, and nothing is in the first bucket
    return low +
           (Bound(bucket) - low) * ((wanted - before) / static_cast<double>(buckets_[bucket]));
  }

 private:
  std::array<uint64_t, kBuckets> buckets_ = {};
  uint64_t count_ = 0;
  absl::Duration sum_;
};

}  // namespace syncnorm::server
