// Durations between bounds, and the quantiles that Prometheus would estimate.

#include "server/histogram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "server/round_counters.h"

namespace syncnorm::server {
namespace {

using testing::ElementsAre;

constexpr std::array<int64_t, 3> kBoundsNs = {1'000'000, 10'000'000, 100'000'000};
using Three = Histogram<kBoundsNs>;

Three Of(std::initializer_list<double> values_ms) {
  Three histogram;
  for (const double value : values_ms) histogram.Add(absl::Milliseconds(value));
  return histogram;
}

TEST(HistogramTest, ABoundBelongsToTheBucketBelowIt) {
  const Three histogram = Of({0, 1, 1.000001, 10, 100, 101, 1e6});
  EXPECT_THAT(histogram.buckets(), ElementsAre(2, 2, 1, 2));
  EXPECT_EQ(histogram.count(), 7u);
}

TEST(HistogramTest, SumsAreExact) {
  EXPECT_EQ(Of({0.000001, 2, 300}).sum(), absl::Nanoseconds(302'000'001));
}

TEST(HistogramTest, WhatCameSinceIsTheDifference) {
  const Three earlier = Of({0.5, 5, 50});
  Three later = earlier;
  later.Add(absl::Milliseconds(7));
  later.Add(absl::Milliseconds(700));
  EXPECT_THAT(later.Since(earlier).buckets(), ElementsAre(0, 1, 0, 1));
  EXPECT_EQ(later.Since(earlier).count(), 2u);
  EXPECT_EQ(later.Since(earlier).sum(), absl::Milliseconds(707));
}

TEST(HistogramTest, MergingAddsEverything) {
  Three sum = Of({0.5});
  sum.Merge(Of({5, 500}));
  EXPECT_THAT(sum.buckets(), ElementsAre(1, 1, 0, 1));
  EXPECT_EQ(sum.count(), 3u);
  EXPECT_EQ(sum.sum(), absl::Milliseconds(505.5));
}

// What histogram_quantile of Prometheus 2.42 gives for these buckets, worked out by its formula:
// low + (high - low) x (q x count - before) / in the bucket.
TEST(HistogramTest, QuantilesAreThoseOfPrometheus) {
  const Three histogram = Of({0.1, 0.2, 2, 3, 4, 5, 6, 7, 20, 30});  // 2, 6, 2, 0
  EXPECT_EQ(histogram.Quantile(0.1), absl::Milliseconds(0.5));
  EXPECT_EQ(histogram.Quantile(0.2), absl::Milliseconds(1));
  EXPECT_EQ(histogram.Quantile(0.5), absl::Milliseconds(5.5));
  EXPECT_NEAR(absl::ToDoubleMilliseconds(*histogram.Quantile(0.99)), 95.5, 1e-9);
  EXPECT_EQ(histogram.Quantile(1), absl::Milliseconds(100));
}

TEST(HistogramTest, AQuantileBeyondTheBoundsIsTheHighestBound) {
  EXPECT_EQ(Of({500, 600}).Quantile(0.5), absl::Milliseconds(100));
}

TEST(HistogramTest, AnEmptyOneHasNoQuantile) {
  EXPECT_FALSE(Three().Quantile(0.5).has_value());
  EXPECT_EQ(Of({5}).Quantile(0), absl::ZeroDuration());
}

TEST(RoundCountersTest, MergingAddsEverything) {
  RoundCounters one;
  one.contributions = 1;
  one.repeats = 2;
  one.completed = 3;
  one.failed = 4;
  one.failed_by[10] = 4;
  one.not_finite = 5;
  one.stragglers = 6;
  one.durations.Add(absl::Milliseconds(1));
  RoundCounters sum = one;
  sum.Merge(one);
  EXPECT_EQ(sum.contributions, 2u);
  EXPECT_EQ(sum.repeats, 4u);
  EXPECT_EQ(sum.completed, 6u);
  EXPECT_EQ(sum.failed, 8u);
  EXPECT_EQ(sum.failed_by[10], 8u);
  EXPECT_EQ(sum.not_finite, 10u);
  EXPECT_EQ(sum.stragglers, 12u);
  EXPECT_EQ(sum.durations.count(), 2u);
}

}  // namespace
}  // namespace syncnorm::server
