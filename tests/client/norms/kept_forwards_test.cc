// Which forward a recomputation repeats.
#include "client/norms/kept_forwards.h"

#include <gtest/gtest.h>

#include <string>

namespace syncnorm::norms {
namespace {

using Forwards = KeptForwards<std::string>;

Moments Of(double value, uint64_t count = 1) {
  Moments moments = Moments::Sums(1, 2, Precision::kF64);
  moments.count = count;
  moments.values = {value, 7};
  return moments;
}

// What the forward that is found kept; "" if none is.
std::string Found(const Forwards& forwards, const Moments& local) {
  const Forwards::Kept* kept = forwards.Find(local);
  return kept == nullptr ? "" : kept->forward;
}

TEST(KeptForwardsTest, FindsByEveryBitOfTheMomentsAndTheCount) {
  Forwards forwards(4);
  forwards.Keep(Of(1), "one");
  forwards.Keep(Of(0.0), "zero");
  EXPECT_EQ(Found(forwards, Of(1)), "one");
  EXPECT_EQ(Found(forwards, Of(0.0)), "zero");
  EXPECT_EQ(Found(forwards, Of(-0.0)), "");
  EXPECT_EQ(Found(forwards, Of(1, 2)), "");
  EXPECT_EQ(Found(forwards, Moments::Sums(2, 2, Precision::kF64)), "");
}

TEST(KeptForwardsTest, KeepsTheLastOnes) {
  Forwards forwards(2);
  for (double i : {1, 2, 3}) forwards.Keep(Of(i), std::to_string(i));
  EXPECT_EQ(Found(forwards, Of(1)), "");
  EXPECT_NE(Found(forwards, Of(2)), "");
  EXPECT_NE(Found(forwards, Of(3)), "");
}

TEST(KeptForwardsTest, OfEqualOnesFindsTheNewestWithoutABackwardOrElseTheNewest) {
  Forwards forwards(4);
  const uint64_t first = forwards.Keep(Of(1), "first");
  const uint64_t second = forwards.Keep(Of(1), "second");
  const uint64_t third = forwards.Keep(Of(1), "third");
  EXPECT_EQ(Found(forwards, Of(1)), "third");
  EXPECT_EQ(Found(forwards, Of(1)), "third");  // finding one uses nothing up
  forwards.BackwardCame(third);
  EXPECT_EQ(Found(forwards, Of(1)), "second");
  forwards.BackwardCame(first);
  EXPECT_EQ(Found(forwards, Of(1)), "second");
  forwards.BackwardCame(second);
  EXPECT_EQ(Found(forwards, Of(1)), "third");
}

TEST(KeptForwardsTest, ABackwardOfOneThatIsNotKeptChangesNothing) {
  Forwards forwards(1);
  const uint64_t gone = forwards.Keep(Of(1), "gone");
  forwards.Keep(Of(1), "kept");
  forwards.BackwardCame(gone);
  forwards.BackwardCame(0);
  EXPECT_FALSE(forwards.Find(Of(1))->backward_came);
}

TEST(KeptForwardsTest, OfNoneKeepsNothingAndRecognisesNoRecomputation) {
  Forwards none(0), some(1);
  EXPECT_EQ(none.Keep(Of(1), "never"), 0u);
  EXPECT_EQ(none.Find(Of(1)), nullptr);
  EXPECT_FALSE(some.Recomputing());
  const RecomputeScope scope;
  EXPECT_TRUE(some.Recomputing());
  EXPECT_FALSE(none.Recomputing());
}

}  // namespace
}  // namespace syncnorm::norms
