#include "server/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

using Kind = Membership::Joining::Kind;
using testing::AllOf;
using testing::HasSubstr;

const absl::Time kNow = absl::UnixEpoch() + absl::Hours(1);

class MembershipTest : public testing::Test {
 protected:
  MembershipTest() : members_(MakeJoin(0, 3), kNow, Timeouts()) {}

  Membership::Joining Join(StreamId stream, const wire::Join& join) {
    return members_.Join(kNow, stream, join);
  }
  void Fill() {
    for (uint32_t rank = 0; rank < 3; ++rank) {
      ASSERT_EQ(Join(10 + rank, MakeJoin(rank, 3)).kind, Kind::kSeated);
    }
  }

  Membership members_;
};

TEST_F(MembershipTest, IsFullWhenEveryRankIsSeated) {
  Fill();
  EXPECT_TRUE(members_.full());
  EXPECT_FALSE(members_.established());
  members_.Establish(7, 1);
  EXPECT_EQ(members_.Name(), "group \"world\" epoch 7");
  EXPECT_EQ(members_.hosts(), (std::vector<std::string>{"h0", "h1", "h2"}));
  EXPECT_EQ(members_.Who(1), "rank 1 (host h1, pid 101)");
}

TEST_F(MembershipTest, ASecondWorkerWithTheSameRankEndsTheJoining) {
  Join(1, MakeJoin(0, 3));
  wire::Join other = MakeJoin(0, 3);
  other.host = "h9";
  other.pid = 999;
  other.incarnation = "another process.";
  const Membership::Joining joining = Join(2, other);
  EXPECT_EQ(joining.kind, Kind::kEnded);
  EXPECT_EQ(joining.failure.code, absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(joining.failure.text, AllOf(HasSubstr("rank 0 (host h9, pid 999)"),
                                          HasSubstr("rank 0 (host h0, pid 100)")));
}

TEST_F(MembershipTest, TheSameProcessTakesItsOwnSeat) {
  Join(1, MakeJoin(0, 3));
  const Membership::Joining joining = Join(2, MakeJoin(0, 3));
  EXPECT_EQ(joining.kind, Kind::kSeated);
  EXPECT_EQ(joining.replaced, 1u);
  EXPECT_EQ(members_.here(), 1u);
  EXPECT_EQ(members_.member(0).stream, 2u);
}

TEST_F(MembershipTest, AnotherWorldSizeEndsTheJoiningNamingBothValuesAndWhoSetTheFirst) {
  Join(1, MakeJoin(0, 3));
  const Membership::Joining joining = Join(2, MakeJoin(2, 8));
  EXPECT_EQ(joining.kind, Kind::kEnded);
  EXPECT_EQ(joining.failure.code, absl::StatusCode::kAborted);
  EXPECT_EQ(joining.failure.text,
            "group \"world\": rank 2 (host h2, pid 102) says world_size 8, rank 0 (host h0, pid "
            "100) said 3 before; the joining is over for all");
}

TEST_F(MembershipTest, ARankOutsideOfTheWorldSizeEndsTheJoining) {
  Join(1, MakeJoin(0, 3));
  const Membership::Joining joining = Join(2, MakeJoin(3, 3));
  EXPECT_EQ(joining.kind, Kind::kEnded);
  EXPECT_EQ(joining.failure.code, absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(joining.failure.text, HasSubstr("rank outside of world_size 3"));
}

TEST_F(MembershipTest, JobsThatAreToldMustAgree) {
  wire::Join quiet = MakeJoin(0, 3);
  wire::Join one = MakeJoin(1, 3);
  one.job = "job-a";
  wire::Join two = MakeJoin(2, 3);
  two.job = "job-b";
  EXPECT_EQ(Join(1, quiet).kind, Kind::kSeated);
  EXPECT_EQ(Join(2, one).kind, Kind::kSeated);
  const Membership::Joining joining = Join(3, two);
  EXPECT_EQ(joining.kind, Kind::kEnded);
  EXPECT_EQ(joining.failure.code, absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(joining.failure.text,
              AllOf(HasSubstr("rank 2 (host h2, pid 102) belongs to job \"job-b\""),
                    HasSubstr("rank 1 (host h1, pid 101) to job \"job-a\"")));
}

TEST_F(MembershipTest, OnceEstablishedOnlyTheNewcomerIsRefused) {
  Fill();
  members_.Establish(4, 1);
  wire::Join other = MakeJoin(1, 3);
  other.incarnation = "another process.";
  Membership::Joining joining = Join(50, other);
  EXPECT_EQ(joining.kind, Kind::kRefused);
  EXPECT_EQ(joining.failure.code, absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(joining.failure.text, HasSubstr("that rank 1 (host h1, pid 101) holds"));
  joining = Join(51, MakeJoin(1, 5));
  EXPECT_EQ(joining.kind, Kind::kRefused);
  EXPECT_THAT(joining.failure.text, AllOf(HasSubstr("world_size 5"), HasSubstr("said 3")));
  EXPECT_EQ(members_.member(1).stream, 11u);
}

TEST_F(MembershipTest, TheSmallestTimeoutsOfTheMembersHold) {
  wire::Join one = MakeJoin(0, 3);
  one.round_timeout = absl::Seconds(600);
  wire::Join two = MakeJoin(1, 3);
  two.round_timeout = absl::Seconds(7);
  two.join_timeout = absl::Seconds(9);
  Membership members(one, kNow, Timeouts());
  members.Join(kNow, 1, one);
  EXPECT_EQ(members.round_timeout(), absl::Seconds(600));
  members.Join(kNow, 2, two);
  EXPECT_EQ(members.round_timeout(), absl::Seconds(7));
  EXPECT_EQ(members.join_deadline(), kNow + absl::Seconds(9));
  members.Join(kNow, 3, MakeJoin(2, 3));  // says nothing: the default of 60 s
  EXPECT_EQ(members.round_timeout(), absl::Seconds(7));
}

TEST_F(MembershipTest, TheJoinDeadlineListsWhoIsThereAndWhoIsNot) {
  Join(1, MakeJoin(1, 3));
  const Failure failure = members_.JoinDeadline();
  EXPECT_EQ(failure.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(failure.ranks, (std::vector<uint32_t>{0, 2}));
  EXPECT_EQ(failure.text,
            "group \"world\": ranks 0,2 of world_size 3 did not join within 300.0 s; present: "
            "rank 1");
}

TEST_F(MembershipTest, ASeatIsFreeAgainWhileTheGroupForms) {
  Join(1, MakeJoin(1, 3));
  members_.Gone(1, Member::State::kLost);
  EXPECT_EQ(members_.here(), 0u);
  wire::Join other = MakeJoin(1, 3);
  other.incarnation = "another process.";
  EXPECT_EQ(Join(2, other).kind, Kind::kSeated);
}

}  // namespace
}  // namespace syncnorm::server
