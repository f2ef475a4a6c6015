// Contributions with a NaN or an infinity, under each policy.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

class NonFiniteTest : public testing::Test {
 protected:
  std::vector<StreamId> Form(uint32_t size, NonFinite policy) {
    std::vector<StreamId> streams;
    for (uint32_t rank = 0; rank < size; ++rank) {
      wire::Join join = MakeJoin(rank, size);
      join.non_finite = policy;
      streams.push_back(world_.Join(join));
    }
    for (const StreamId stream : streams) world_.TakeJoined(stream);
    return streams;
  }
  // 2 rows of 3 channels, all 1 but the one at `index`.
  static wire::Contribution With(double value, size_t index, const Sent& sent = Sent(),
                                 MomentKind kind = MomentKind::kSums) {
    Sent shaped = sent;
    shaped.kind = kind;
    shaped.rows = 2;
    shaped.channels = 3;
    wire::Contribution contribution = Make(shaped, 1);
    contribution.moments.values[index] = value;
    return contribution;
  }

  CoreWorld world_;
};

TEST_F(NonFiniteTest, UnderFailTheFirstOneFailsItsRoundForAllAndIsNamed) {
  const std::vector<StreamId> streams = Form(3, NonFinite::kFail);
  world_.ContributeAs(streams[0], With(1, 0));
  world_.ContributeAs(streams[1], With(kNan, 4));
  const Failure failure = world_.TakeFailure(streams[0]);
  EXPECT_EQ(failure.code, absl::StatusCode::kAborted);
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
  EXPECT_EQ(failure.hosts, std::vector<std::string>{"h1"});
  EXPECT_EQ(
      failure.text,
      "group \"world\" epoch 1 round 1 layer bn1 (forward, step 1): rank 1 (host h1, pid 101) "
      "sent NaN in row 1 at channel 1");
  EXPECT_EQ(world_.TakeFailure(streams[1]), failure);
  world_.ContributeAs(streams[2], With(1, 0));
  EXPECT_EQ(world_.TakeFailure(streams[2]), failure);
  EXPECT_EQ(world_.core().snapshot().rounds.not_finite, 1u);
  // The next round is judged by itself.
  for (const StreamId stream : streams) world_.ContributeAs(stream, With(1, 0, {.round = 2}));
  for (const StreamId stream : streams) world_.TakeResult(stream);
}

TEST_F(NonFiniteTest, EveryKindOfValueIsToldWithItsRowAndChannel) {
  struct Case {
    double value;
    size_t index;
    MomentKind kind;
    const char* text;
  };
  const std::vector<StreamId> streams = Form(2, NonFinite::kFail);
  uint64_t round = 0;
  for (const Case& c :
       {Case{kNan, 0, MomentKind::kSums, "sent NaN in row 0 at channel 0"},
        Case{-kNan, 5, MomentKind::kSums, "sent NaN in row 1 at channel 2"},
        Case{kInf, 2, MomentKind::kSums, "sent Inf in row 0 at channel 2"},
        Case{-kInf, 3, MomentKind::kSums, "sent -Inf in row 1 at channel 0"},
        Case{kNan, 1, MomentKind::kMeanM2, "sent NaN in row 0 (mean) at channel 1"},
        Case{kInf, 4, MomentKind::kMeanM2, "sent Inf in row 1 (M2) at channel 1"}}) {
    world_.ContributeAs(streams[1], With(c.value, c.index, {.round = ++round}, c.kind));
    EXPECT_THAT(world_.TakeFailure(streams[1]).text, HasSubstr(c.text));
    world_.ContributeAs(streams[0], With(1, 0, {.round = round}, c.kind));
    world_.Take(streams[0]);
  }
}

TEST_F(NonFiniteTest, TheLargestFiniteValuesAreNotTakenForInfinities) {
  const std::vector<StreamId> streams = Form(1, NonFinite::kFail);
  uint64_t round = 0;
  for (const double value :
       {std::numeric_limits<double>::max(), std::numeric_limits<double>::lowest(),
        std::numeric_limits<double>::denorm_min(), -0.0}) {
    world_.ContributeAs(streams[0], With(value, 3, {.round = ++round}));
    EXPECT_EQ(world_.TakeResult(streams[0]).moments.values[3], value);
  }
}

TEST_F(NonFiniteTest, AValueIsFoundWhereverItIs) {
  const std::vector<StreamId> streams = Form(1, NonFinite::kFail);
  for (uint64_t at = 0; at < 19; ++at) {
    wire::Contribution contribution =
        Make({.round = at + 1, .kind = MomentKind::kSums, .rows = 1, .channels = 19}, 1);
    contribution.moments.values[at] = at % 2 == 0 ? kNan : kInf;
    world_.ContributeAs(streams[0], contribution);
    EXPECT_THAT(world_.TakeFailure(streams[0]).text,
                HasSubstr(absl::StrCat(" in row 0 at channel ", at)));
  }
}

TEST_F(NonFiniteTest, FiniteValuesWhoseSumOverflowsAreFinite) {
  const std::vector<StreamId> streams = Form(1, NonFinite::kFail);
  wire::Contribution contribution = With(1, 3, {.round = 1});
  for (double& value : contribution.moments.values) value = std::numeric_limits<double>::max();
  world_.ContributeAs(streams[0], contribution);
  EXPECT_EQ(world_.TakeResult(streams[0]).moments.values[3], std::numeric_limits<double>::max());
}

TEST_F(NonFiniteTest, UnderFailTheSameAgainGetsTheSameFailureAgain) {
  const std::vector<StreamId> streams = Form(2, NonFinite::kFail);
  world_.ContributeAs(streams[0], With(kInf, 0));
  const std::string bytes = world_.TakeBytes(streams[0]);
  world_.ContributeAs(streams[0], With(kInf, 0));
  EXPECT_EQ(world_.TakeBytes(streams[0]), bytes);
  EXPECT_EQ(world_.core().snapshot().rounds.not_finite, 1u);
}

TEST_F(NonFiniteTest, AGoodContributionThatComesAgainAsABadOneIsAChange) {
  const std::vector<StreamId> streams = Form(2, NonFinite::kFail);
  world_.ContributeAs(streams[0], With(1, 0));
  world_.ContributeAs(streams[0], With(kNan, 0));
  EXPECT_THAT(world_.TakeFailure(streams[0]).text,
              AllOf(HasSubstr("sent it again with other contents"), Not(HasSubstr("NaN"))));
}

TEST_F(NonFiniteTest, UnderPropagateItIsFoldedLikeAnyOtherValue) {
  const std::vector<StreamId> streams = Form(2, NonFinite::kPropagate);
  world_.ContributeAs(streams[0], With(1, 0));
  world_.ContributeAs(streams[1], With(kInf, 4));
  const wire::Result result = world_.TakeResult(streams[0]);
  EXPECT_EQ(result.moments.count, 20u);
  EXPECT_EQ(result.moments.values, (std::vector<double>{2, 2, 2, 2, kInf, 2}));
  world_.ContributeAs(streams[0], With(kNan, 4, {.round = 2}));
  world_.ContributeAs(streams[1], With(1, 0, {.round = 2}));
  world_.Take(streams[1]);
  EXPECT_TRUE(std::isnan(world_.TakeResult(streams[0]).moments.values[4]));
  EXPECT_EQ(world_.core().snapshot().rounds.not_finite, 0u);
}

TEST_F(NonFiniteTest, UnderDropThatContributionIsLeftOutForAllAndNoted) {
  const std::vector<StreamId> streams = Form(3, NonFinite::kDrop);
  world_.TakeNotes();
  world_.ContributeAs(streams[1], With(kNan, 4));
  EXPECT_TRUE(world_.Take(streams[1]).empty()) << "it waits for the others as they for it";
  world_.ContributeAs(streams[0], With(1, 0, {.count = 3}));
  world_.ContributeAs(streams[2], With(1, 0, {.count = 4}));
  const std::string bytes = world_.TakeBytes(streams[1]);
  EXPECT_EQ(world_.TakeBytes(streams[0]), bytes);
  const wire::Result result = world_.TakeResult(streams[2]);
  EXPECT_EQ(result.moments.count, 7u);
  EXPECT_EQ(result.moments.values, std::vector<double>(6, 2));
  const std::vector<std::string> notes = world_.TakeNotes();
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("rank 1 (host h1, pid 101) sent NaN in row 1 at channel 1; it is "
                                  "left out for all"));
}

TEST_F(NonFiniteTest, UnderDropTheSameAgainCountsOnceAndGetsTheSameResult) {
  const std::vector<StreamId> streams = Form(2, NonFinite::kDrop);
  world_.ContributeAs(streams[1], With(kNan, 4));
  world_.ContributeAs(streams[1], With(kNan, 4));
  world_.ContributeAs(streams[0], With(1, 0));
  const std::string bytes = world_.TakeBytes(streams[0]);
  world_.Take(streams[1]);
  world_.ContributeAs(streams[1], With(kNan, 4));
  EXPECT_EQ(world_.TakeBytes(streams[1]), bytes);
  EXPECT_EQ(world_.core().snapshot().rounds.repeats, 2u);
  EXPECT_EQ(world_.core().snapshot().rounds.not_finite, 1u);
}

TEST_F(NonFiniteTest, WhereAllAreDroppedTheResultIsZerosOfCountZero) {
  const std::vector<StreamId> streams = Form(2, NonFinite::kDrop);
  for (const StreamId stream : streams) {
    world_.ContributeAs(stream, With(kNan, 0, Sent(), MomentKind::kMeanM2));
  }
  const wire::Result result = world_.TakeResult(streams[0]);
  EXPECT_EQ(result.moments.kind, MomentKind::kMeanM2);
  EXPECT_EQ(result.moments.count, 0u);
  EXPECT_EQ(result.moments.values, std::vector<double>(6, 0));
}

TEST_F(NonFiniteTest, UnderDropAMismatchIsOneToo) {
  const std::vector<StreamId> streams = Form(2, NonFinite::kDrop);
  world_.ContributeAs(streams[0], With(1, 0));
  world_.ContributeAs(streams[1], With(kNan, 0, {.layer = "bn2"}));
  EXPECT_THAT(world_.TakeFailure(streams[0]).text, HasSubstr("rank 1 sent bn2"));
}

TEST_F(NonFiniteTest, PoliciesThatDisagreeEndTheJoiningNamingBoth) {
  wire::Join one = MakeJoin(0, 2);
  wire::Join two = MakeJoin(1, 2);
  two.non_finite = NonFinite::kDrop;
  const StreamId first = world_.Join(one);
  const StreamId second = world_.Join(two);
  Failure failure = world_.TakeFailure(first);
  EXPECT_EQ(failure.code, absl::StatusCode::kAborted);
  EXPECT_THAT(failure.text,
              HasSubstr("rank 1 (host h1, pid 101) says non_finite drop, rank 0 (host "
                        "h0, pid 100) said fail before"));
  EXPECT_EQ(world_.TakeFailure(second), failure);
  two = MakeJoin(1, 2);
  two.on_loss = OnLoss::kFinish;
  const StreamId third = world_.Join(one);
  world_.Join(two);
  EXPECT_THAT(world_.TakeFailure(third).text, HasSubstr("says on_loss finish, rank 0"));
}

}  // namespace
}  // namespace syncnorm::server
