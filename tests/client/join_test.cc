#include "client/join.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/interrupt.h>

#include "tests/client/fake_transport.h"

namespace syncnorm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string Text(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

class JoinTest : public ::testing::Test {
 protected:
  JoinTest() {
    join_.group = "world";
    join_.rank = 1;
    join_.world_size = 2;
    join_.incarnation = std::string(wire::kIncarnationBytes, 'i');
    join_.round_timeout = absl::Seconds(60);
    join_.join_timeout = absl::Seconds(5);
  }

  absl::StatusOr<std::unique_ptr<Session>> Join() {
    return JoinGroup("10.0.0.1:5000", join_, &clock_, &transport_);
  }
  std::string Joined(uint64_t epoch = 3) {
    wire::Joined joined;
    joined.epoch = epoch;
    joined.world_size = 2;
    joined.hosts = {"h0", "h1"};
    joined.round_timeout = absl::Seconds(60);
    return codec_.Encode(joined);
  }
  std::string Failed(absl::StatusCode code, std::string text) {
    Failure failure;
    failure.code = code;
    failure.text = std::move(text);
    failure.group = "world";
    return codec_.Encode(failure);
  }
  static FakeTransport::Script Refused() {
    return {.reached = false, .end = absl::UnavailableError("refused")};
  }

  wire::Codec codec_;
  wire::Join join_;
  VirtualClock clock_;
  const absl::Time start_ = clock_.now;
  FakeTransport transport_{&clock_};
};

TEST_F(JoinTest, ReturnsWhenEveryMemberHasJoined) {
  transport_.scripts = {{.delay = absl::Seconds(4), .messages = {Joined()}}};
  const auto session = Join();
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->epoch(), 3u);
  EXPECT_EQ(clock_.now, start_ + absl::Seconds(4));
}

TEST_F(JoinTest, TriesAgainUntilTheCoordinatorIsThere) {
  transport_.scripts = {Refused(), Refused(), Refused(), {.messages = {Joined()}}};
  const auto session = Join();
  ASSERT_TRUE(session.ok()) << session.status();
  ASSERT_THAT(transport_.retries, SizeIs(3));
  EXPECT_LT(transport_.retries[0], absl::Milliseconds(100));
  EXPECT_GT(transport_.retries[2], transport_.retries[0]);
}

// The group may have formed: the coordinator waits for a member 150 ms.
TEST_F(JoinTest, OneWhoseStreamBreaksAfterItsJoinWentOutIsBackAsFastAsAMember) {
  join_.join_timeout = absl::Seconds(60);
  const FakeTransport::Script broken = {.delay = absl::Seconds(4),
                                        .end = absl::UnavailableError("reset")};
  for (int i = 0; i < 6; ++i) transport_.scripts.push_back(Refused());
  for (int i = 0; i < 4; ++i) transport_.scripts.push_back(broken);
  transport_.scripts.push_back({.messages = {Joined()}});
  ASSERT_TRUE(Join().ok());
  ASSERT_THAT(transport_.retries, SizeIs(10));
  EXPECT_GT(transport_.retries[5], absl::Milliseconds(750)) << "nobody was there";
  EXPECT_LT(transport_.retries[6], absl::Milliseconds(62));
  EXPECT_EQ(transport_.retries[7], 2 * transport_.retries[6]);
  EXPECT_LE(transport_.retries[9], absl::Milliseconds(250));
}

TEST_F(JoinTest, TellsTheCoordinatorTheTimeThatIsLeft) {
  transport_.scripts = {Refused(), {.messages = {Joined()}}};
  ASSERT_TRUE(Join().ok());
  wire::WorkerMessage message;
  ASSERT_TRUE(codec_.Decode(transport_.written[1], &message).ok());
  EXPECT_EQ(message.join.join_timeout,
            absl::Trunc(absl::Seconds(5) - transport_.retries[0], absl::Microseconds(1)));
}

TEST_F(JoinTest, NothingListeningEndsInTheLastErrorAndTheAddress) {
  for (int i = 0; i < 100; ++i) transport_.scripts.push_back(Refused());
  const absl::Status status = Join().status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("rank 1 of group world at 10.0.0.1:5000"),
                                  HasSubstr("for 5s"), HasSubstr("last error: refused")));
  EXPECT_EQ(clock_.now, start_ + absl::Seconds(5));
  EXPECT_LE(transport_.retries.back(), absl::Seconds(1.25));
}

TEST_F(JoinTest, AConnectionThatNeverComesEndsAtTheDeadline) {
  transport_.scripts = {{.reached = false}};
  const absl::Status status = Join().status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr("last error: no connection yet"));
  EXPECT_EQ(clock_.now, start_ + absl::Seconds(5));
}

TEST_F(JoinTest, ASilentCoordinatorEndsAtTheDeadline) {
  transport_.scripts = {{}};
  const absl::Status status = Join().status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("rank 1 of group world at 10.0.0.1:5000"),
                                  HasSubstr("are all 2 members there?")));
  EXPECT_EQ(clock_.now, start_ + absl::Seconds(5) + Session::kAnswerSlack);
}

TEST_F(JoinTest, ARefusalIsNotTriedAgain) {
  transport_.scripts = {{.messages = {Failed(absl::StatusCode::kAborted, "world_size 2 vs 4")}},
                        {.messages = {Joined()}}};
  const absl::Status status = Join().status();
  EXPECT_TRUE(absl::IsAborted(status));
  EXPECT_EQ(Text(status), "world_size 2 vs 4");
  EXPECT_THAT(transport_.written, SizeIs(1));
}

TEST_F(JoinTest, ACoordinatorThatGoesDownIsTriedAgain) {
  transport_.scripts = {{.messages = {Failed(absl::StatusCode::kUnavailable, "going down")}},
                        {.messages = {Joined(4)}}};
  const auto session = Join();
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->epoch(), 4u);
}

TEST_F(JoinTest, AServerOfAnotherKindIsNotTriedAgain) {
  transport_.scripts = {{.end = absl::UnimplementedError("unknown method")}};
  const absl::Status status = Join().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Text(status), AllOf(HasSubstr("10.0.0.1:5000"), HasSubstr("unknown method")));
}

TEST_F(JoinTest, BytesThatAreNoMessageAreABreachOfTheProtocol) {
  transport_.scripts = {{.messages = {"not a message"}}};
  EXPECT_EQ(Join().status().code(), absl::StatusCode::kInternal);
}

TEST_F(JoinTest, AnInterruptEndsTheWaitForTheOthersAtItsNextLook) {
  transport_.scripts = {{.delay = absl::Seconds(4), .messages = {Joined()}}};
  int asked = 0;
  const InterruptScope scope([&asked] { return ++asked == 3; });
  const absl::Status status = Join().status();
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("rank 1 of group world"), HasSubstr("interrupted")));
  EXPECT_EQ(clock_.now, start_ + 3 * InterruptScope::kLook);
}

TEST_F(JoinTest, AnInterruptEndsTheWaitForTheCoordinatorToo) {
  transport_.scripts = {Refused(), Refused(), Refused(), Refused(), Refused(), Refused()};
  bool stop = false;
  const InterruptScope scope([&] { return stop |= clock_.now >= start_ + absl::Seconds(1); });
  EXPECT_TRUE(absl::IsCancelled(Join().status()));
  EXPECT_LE(clock_.now, start_ + absl::Seconds(1) + InterruptScope::kLook);
}

TEST_F(JoinTest, AScopeThatDoesNotInterruptChangesNothing) {
  transport_.scripts = {Refused(), {.delay = absl::Seconds(4), .messages = {Joined()}}};
  const InterruptScope scope([] { return false; });
  const auto session = Join();
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_LT(clock_.now, start_ + absl::Seconds(4.5));
}

TEST_F(JoinTest, NorIsTheDeadlineAnother) {
  transport_.scripts = {{.reached = true}};
  const InterruptScope scope([] { return false; });
  EXPECT_TRUE(absl::IsDeadlineExceeded(Join().status()));
  EXPECT_EQ(clock_.now, start_ + absl::Seconds(5) + Session::kAnswerSlack);
}

}  // namespace
}  // namespace syncnorm
