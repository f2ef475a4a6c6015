#include <syncnorm/moments.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace syncnorm {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

Moments MeanM2Of(uint64_t count, std::vector<double> values) {
  Moments moments = Moments::MeanM2(static_cast<int64_t>(values.size()) / 2, Precision::kF64);
  moments.count = count;
  moments.values = std::move(values);
  return moments;
}

Moments SumsOf(uint64_t count, std::vector<double> values) {
  Moments moments = Moments::Sums(1, static_cast<int64_t>(values.size()), Precision::kF64);
  moments.count = count;
  moments.values = std::move(values);
  return moments;
}

// The moments of one channel's values, in long double.
Moments MomentsOf(const std::vector<double>& values) {
  long double mean = 0, m2 = 0;
  for (double v : values) mean += v;
  if (!values.empty()) mean /= static_cast<long double>(values.size());
  for (double v : values) m2 += (v - mean) * (v - mean);
  return MeanM2Of(values.size(), {static_cast<double>(mean), static_cast<double>(m2)});
}

TEST(MomentsTest, BeginAsZerosOfNoPositions) {
  const Moments moments = Moments::Sums(3, 5, Precision::kF32);
  EXPECT_EQ(moments.kind, MomentKind::kSums);
  EXPECT_EQ(moments.precision, Precision::kF32);
  EXPECT_EQ(moments.channels, 5);
  EXPECT_EQ(moments.rows, 3);
  EXPECT_EQ(moments.count, 0u);
  EXPECT_EQ(moments.values.size(), 15u);
  EXPECT_THAT(moments.values, Each(0.0));
  EXPECT_EQ(Moments::MeanM2(7, Precision::kF64).values.size(), 14u);
}

TEST(MomentsTest, RowsAreStoredOneAfterTheOther) {
  Moments moments = MeanM2Of(3, {1, 2, 10, 20});
  EXPECT_THAT(moments.row(0), ElementsAre(1, 2));
  EXPECT_THAT(moments.row(1), ElementsAre(10, 20));
  moments.row(1)[0] = 11;
  EXPECT_THAT(moments.values, ElementsAre(1, 2, 11, 20));
}

TEST(MomentsTest, KindsAndPrecisionsHaveNames) {
  EXPECT_EQ(Name(MomentKind::kMeanM2), "mean_m2");
  EXPECT_EQ(Name(MomentKind::kSums), "sums");
  EXPECT_EQ(Name(Precision::kF32), "f32");
  EXPECT_EQ(Name(Precision::kF64), "f64");
}

TEST(FoldTest, MergesSlicesAsIfTheyWereOne) {
  const uint32_t seed = 7;
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  std::normal_distribution<double> value(1e4, 1);
  std::vector<double> all;
  Moments total = Moments::MeanM2(1, Precision::kF64);
  for (int size : {5, 1, 1000, 0, 33, 2}) {
    std::vector<double> slice(static_cast<size_t>(size));
    for (double& v : slice) v = value(random);
    all.insert(all.end(), slice.begin(), slice.end());
    ASSERT_TRUE(Fold(MomentsOf(slice), &total).ok());
  }
  const Moments expected = MomentsOf(all);
  EXPECT_EQ(total.count, expected.count);
  EXPECT_NEAR(total.values[0], expected.values[0], 1e-11);
  EXPECT_NEAR(total.values[1], expected.values[1], 1e-9 * expected.values[1]);
}

TEST(FoldTest, SurvivesMeansFarLargerThanTheDeviations) {
  Moments total = MeanM2Of(1000, {1e8, 1e-3});
  ASSERT_TRUE(Fold(MeanM2Of(1000, {1e8 + 0.5, 1e-3}), &total).ok());
  EXPECT_EQ(total.values[0], 1e8 + 0.25);
  EXPECT_NEAR(total.values[1], 2e-3 + 0.25 * 500, 1e-12);
}

TEST(FoldTest, AnEmptyPartLeavesTheTotalBitForBit) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Moments total = MeanM2Of(4, {-0.0, 3.25, 0.1, 7.7});
  const Moments before = total;
  ASSERT_TRUE(Fold(MeanM2Of(0, {nan, 1, 2, 3}), &total).ok());
  EXPECT_EQ(total, before);
  EXPECT_TRUE(std::signbit(total.values[0]));
}

TEST(FoldTest, AnEmptyTotalBecomesThePartBitForBit) {
  Moments total = Moments::MeanM2(2, Precision::kF64);
  ASSERT_TRUE(Fold(MeanM2Of(3, {-0.0, 3.25, 0.1, 7.7}), &total).ok());
  EXPECT_EQ(total, MeanM2Of(3, {-0.0, 3.25, 0.1, 7.7}));
  EXPECT_TRUE(std::signbit(total.values[0]));
}

TEST(FoldTest, TwoEmptySidesStayEmpty) {
  Moments total = Moments::MeanM2(2, Precision::kF64);
  ASSERT_TRUE(Fold(Moments::MeanM2(2, Precision::kF64), &total).ok());
  EXPECT_EQ(total, Moments::MeanM2(2, Precision::kF64));
}

TEST(FoldTest, SumsAreAddedWhateverTheCount) {
  Moments total = SumsOf(2, {1, 2});
  ASSERT_TRUE(Fold(SumsOf(0, {10, 20}), &total).ok());
  EXPECT_EQ(total, SumsOf(2, {11, 22}));
  ASSERT_TRUE(Fold(SumsOf(5, {100, 200}), &total).ok());
  EXPECT_EQ(total, SumsOf(7, {111, 222}));
}

TEST(FoldTest, EqualConstantChannelsKeepExactlyNoM2) {
  Moments total = MeanM2Of(3, {0.1, 0});
  ASSERT_TRUE(Fold(MeanM2Of(11, {0.1, 0}), &total).ok());
  EXPECT_EQ(total, MeanM2Of(14, {0.1, 0}));
}

TEST(FoldTest, RefusesCountsThatOverflowAndLeavesTheTotalAlone) {
  for (Moments total : {SumsOf(2, {1}), MeanM2Of(2, {1, 2})}) {
    const Moments before = total;
    Moments part = total;
    part.count = kMax - 1;
    EXPECT_EQ(Fold(part, &total).code(), absl::StatusCode::kOutOfRange);
    EXPECT_EQ(total, before);
  }
}

TEST(FoldTest, TakesCountsUpToTheLastBit) {
  Moments total = SumsOf(2, {1});
  ASSERT_TRUE(Fold(SumsOf(kMax - 2, {1}), &total).ok());
  EXPECT_EQ(total.count, kMax);
}

TEST(FoldTest, TakesLayersWithoutChannels) {
  Moments total = Moments::MeanM2(0, Precision::kF64);
  Moments part = Moments::MeanM2(0, Precision::kF64);
  part.count = 3;
  ASSERT_TRUE(Fold(part, &total).ok());
  EXPECT_EQ(total.count, 3u);
}

TEST(FoldDeathTest, MismatchedShapesAreABug) {
  Moments total = SumsOf(2, {1, 2});
  EXPECT_DEATH((void)Fold(SumsOf(2, {1}), &total), "CHECK failed");
  EXPECT_DEATH((void)Fold(MeanM2Of(2, {1, 2}), &total), "CHECK failed");
}

TEST(RoundToWireTest, KeepsTheMeanInDoubleAndRoundsTheM2) {
  Moments moments = MeanM2Of(3, {10000.1, 0.1});
  moments.precision = Precision::kF32;
  RoundToWire(&moments);
  EXPECT_THAT(moments.values, ElementsAre(10000.1, static_cast<double>(0.1f)));
}

TEST(RoundToWireTest, RoundsEveryRowOfSums) {
  Moments moments = SumsOf(3, {10000.1, 0.1});
  moments.precision = Precision::kF32;
  RoundToWire(&moments);
  EXPECT_THAT(moments.values,
              ElementsAre(static_cast<double>(10000.1f), static_cast<double>(0.1f)));
}

TEST(RoundToWireTest, LeavesDoubleMomentsAlone) {
  Moments moments = MeanM2Of(3, {10000.1, 0.1});
  RoundToWire(&moments);
  EXPECT_THAT(moments.values, ElementsAre(10000.1, 0.1));
}

TEST(RoundToWireTest, RoundingTwiceIsRoundingOnce) {
  Moments moments = SumsOf(3, {1.0 / 3, 1e300, -1e-300, std::nan("")});
  moments.precision = Precision::kF32;
  RoundToWire(&moments);
  EXPECT_EQ(moments.values[1], std::numeric_limits<double>::infinity());
  EXPECT_EQ(moments.values[2], 0);
  EXPECT_TRUE(std::isnan(moments.values[3]));
  const double third = moments.values[0];
  RoundToWire(&moments);
  EXPECT_EQ(moments.values[0], third);
}

}  // namespace
}  // namespace syncnorm
