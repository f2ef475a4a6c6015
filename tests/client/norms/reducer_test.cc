// The local path's reduction, the future, and the group that the tests use.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/reducer.h>

#include <string>

#include "tests/support/in_process_group.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Moments Sum(double value, Precision precision = Precision::kF64) {
  Moments moments = Moments::Sums(1, 1, precision);
  moments.count = 1;
  moments.values[0] = value;
  return moments;
}

TEST(ReduceAloneTest, RoundsAsTheWireWould) {
  EXPECT_EQ(ReduceAlone(Sum(0.1))->values[0], 0.1);
  EXPECT_EQ(ReduceAlone(Sum(0.1, Precision::kF32))->values[0], static_cast<double>(0.1f));
  Moments mean = Moments::MeanM2(1, Precision::kF32);
  mean.count = 3;
  mean.values = {0.1, 0.2};
  EXPECT_THAT(ReduceAlone(mean)->values, ElementsAre(0.1, static_cast<double>(0.2f)));
  EXPECT_EQ(ReduceAlone(mean)->count, 3u);
}

TEST(ReduceAloneTest, KeepsACountOfZero) {
  EXPECT_EQ(*ReduceAlone(Moments::MeanM2(2, Precision::kF32)), Moments::MeanM2(2, Precision::kF32));
}

TEST(MomentsFutureTest, GivesItsResultOnce) {
  InProcessGroup group(1);
  MomentsFuture future = group.member(0)->Reduce({"a"}, Sum(2));
  EXPECT_TRUE(future.valid());
  EXPECT_TRUE(future.ready());
  EXPECT_EQ(future.Wait()->values[0], 2);
  EXPECT_FALSE(future.valid());
  EXPECT_FALSE(future.ready());
  EXPECT_EQ(future.Wait().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(MomentsFuture().Wait().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(InProcessGroupTest, AddsUpWhatItsMembersBring) {
  InProcessGroup group(3);
  group.SetArrivalOrder({2, 0, 1});
  group.Run([](int rank, Reducer* reducer) {
    const auto total = reducer->ReduceNow({"a", Direction::kNone, 4}, Sum(rank + 1));
    ASSERT_TRUE(total.ok()) << total.status();
    EXPECT_EQ(total->values[0], 6);
    EXPECT_EQ(total->count, 3u);
  });
  EXPECT_THAT(group.submitted(1), ElementsAre("reduce a step 4"));
}

TEST(InProcessGroupTest, TellsAllMembersThatTheirKeysDiffer) {
  InProcessGroup group(2);
  group.Run([](int rank, Reducer* reducer) {
    const auto total = reducer->ReduceNow({rank == 0 ? "a" : "b"}, Sum(1));
    EXPECT_EQ(total.status().code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(total.status().message()), AllOf(HasSubstr(" a "), HasSubstr(" b ")));
  });
}

TEST(InProcessGroupTest, HoldsResultsUntilTheyAreReleased) {
  InProcessGroup group(1);
  group.Hold();
  MomentsFuture future = group.member(0)->Reduce({"a"}, Sum(1));
  EXPECT_FALSE(future.ready());
  group.Release();
  EXPECT_TRUE(future.ready());
}

}  // namespace
}  // namespace syncnorm::testing
