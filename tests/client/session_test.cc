#include "client/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace syncnorm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kTimeout = absl::Seconds(10);

std::string Text(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

wire::Join MakeJoin() {
  wire::Join join;
  join.group = "world";
  join.rank = 2;
  join.world_size = 4;
  join.host = "h2";
  join.incarnation = std::string(wire::kIncarnationBytes, 'i');
  join.round_timeout = kTimeout;
  join.join_timeout = absl::Seconds(5);
  return join;
}

wire::CoordinatorMessage Joined() {
  wire::CoordinatorMessage message;
  message.kind = wire::CoordinatorMessage::Kind::kJoined;
  message.joined.epoch = 7;
  message.joined.world_size = 4;
  message.joined.hosts = {"h0", "h1", "h2", "h3"};
  message.joined.limits.max_values = 1000;
  message.joined.limits.max_layer_name_bytes = 16;
  message.joined.limits.max_message_bytes = 1 << 20;
  message.joined.round_timeout = kTimeout;
  return message;
}

Moments MakeMoments(int64_t channels = 3) {
  Moments moments = Moments::MeanM2(channels, Precision::kF32);
  moments.count = 5;
  for (double& v : moments.values) v = 1.5;
  return moments;
}

ReduceKey Layer(const std::string& name, uint64_t step = 1) {
  return {name, Direction::kForward, step, DType::kF32};
}

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() { Receive(Joined()); }

  void Receive(wire::CoordinatorMessage message) { session_.Receive(&message, "", now_, &done_); }

  uint64_t Submit(const ReduceKey& key, const Moments& moments = MakeMoments()) {
    const absl::StatusOr<uint64_t> round = session_.Submit(key, moments, now_, &bytes_);
    EXPECT_TRUE(round.ok()) << round.status();
    return round.value_or(0);
  }
  absl::Status Refused(const ReduceKey& key, const Moments& moments) {
    return session_.Submit(key, moments, now_, &bytes_).status();
  }
  wire::Contribution Sent() {
    wire::WorkerMessage message;
    wire::Codec codec;
    EXPECT_TRUE(codec.Decode(*bytes_, &message).ok());
    EXPECT_EQ(message.kind, wire::WorkerMessage::Kind::kContribution);
    return message.contribution;
  }
  // The coordinator's answer to what was submitted last.
  wire::CoordinatorMessage ResultOf(const wire::Contribution& contribution) {
    wire::CoordinatorMessage message;
    message.kind = wire::CoordinatorMessage::Kind::kResult;
    message.result.key = contribution.key;
    message.result.moments = contribution.moments;
    return message;
  }
  wire::CoordinatorMessage FailureOf(uint64_t round, absl::StatusCode code, std::string text) {
    wire::CoordinatorMessage message;
    message.kind = wire::CoordinatorMessage::Kind::kFailure;
    message.failure.code = code;
    message.failure.key.epoch = 7;
    message.failure.key.round = round;
    message.failure.key.layer = "other";
    message.failure.text = std::move(text);
    message.failure.group = "world";
    message.failure.ranks = {1};
    message.failure.hosts = {"h1"};
    return message;
  }

  absl::Time now_ = absl::UnixEpoch() + absl::Hours(1);
  Session session_{"10.0.0.1:5000", MakeJoin()};
  Bytes bytes_;
  std::vector<Session::Completion> done_;
};

TEST_F(SessionTest, SpeaksAfterTheJoinIsAnswered) {
  EXPECT_EQ(session_.phase(), Session::Phase::kJoined);
  EXPECT_EQ(session_.epoch(), 7u);
  EXPECT_EQ(session_.Where(), "rank 2 of group world (epoch 7) at 10.0.0.1:5000");
}

TEST_F(SessionTest, NumbersRoundsInTheOrderOfSubmission) {
  EXPECT_EQ(Submit(Layer("a")), 1u);
  EXPECT_EQ(Submit(Layer("b")), 2u);
  const wire::Contribution sent = Sent();
  EXPECT_EQ(sent.key, (RoundKey{7, 2, "b", Direction::kForward, 1}));
  EXPECT_EQ(sent.dtype, DType::kF32);
  EXPECT_EQ(sent.moments, MakeMoments());
}

TEST_F(SessionTest, EndsARoundWithItsResult) {
  Submit(Layer("a"));
  Receive(ResultOf(Sent()));
  ASSERT_THAT(done_, SizeIs(1));
  EXPECT_EQ(done_[0].round, 1u);
  EXPECT_EQ(*done_[0].result, MakeMoments());
  EXPECT_EQ(session_.pending(), 0u);
  EXPECT_EQ(Submit(Layer("b")), 2u);
}

TEST_F(SessionTest, TakesAnswersInAnyOrder) {
  Submit(Layer("a"));
  const wire::Contribution first = Sent();
  Submit(Layer("b"));
  Receive(ResultOf(Sent()));
  Receive(ResultOf(first));
  ASSERT_THAT(done_, SizeIs(2));
  EXPECT_EQ(done_[0].round, 2u);
  EXPECT_EQ(done_[1].round, 1u);
  EXPECT_EQ(session_.pending(), 0u);
}

TEST_F(SessionTest, AFailedRoundFailsAloneAndKeepsItsNames) {
  Submit(Layer("a"));
  Submit(Layer("b"));
  Receive(FailureOf(1, absl::StatusCode::kDeadlineExceeded, "round 1: rank 1 host h1 is missing"));
  ASSERT_THAT(done_, SizeIs(1));
  EXPECT_TRUE(absl::IsDeadlineExceeded(done_[0].result.status()));
  EXPECT_EQ(Text(done_[0].result.status()), "round 1: rank 1 host h1 is missing");
  EXPECT_EQ(syncnorm::FailureOf(done_[0].result.status())->ranks, std::vector<uint32_t>{1});
  EXPECT_EQ(session_.phase(), Session::Phase::kJoined);
  Receive(ResultOf(Sent()));
  EXPECT_THAT(done_, SizeIs(2));
}

TEST_F(SessionTest, AFailedMembershipFailsEverythingPendingAndLaterWithOneText) {
  Submit(Layer("a"));
  Submit(Layer("b"));
  Receive(FailureOf(0, absl::StatusCode::kAborted, "rank 1 host h1 pid 9 disconnected"));
  ASSERT_THAT(done_, SizeIs(2));
  EXPECT_EQ(done_[0].result.status(), done_[1].result.status());
  EXPECT_EQ(Refused(Layer("c"), MakeMoments()), done_[0].result.status());
  EXPECT_EQ(Text(session_.failure()), "rank 1 host h1 pid 9 disconnected");
  EXPECT_EQ(session_.deadline(), absl::InfiniteFuture());
}

TEST_F(SessionTest, RefusesResultsThatWereNotAskedFor) {
  const std::vector<void (*)(wire::Result*)> changes = {
      [](wire::Result* r) { r->key.epoch = 6; },
      [](wire::Result* r) { r->key.round = 2; },
      [](wire::Result* r) { r->key.layer = "b"; },
      [](wire::Result* r) { r->key.direction = Direction::kBackward; },
      [](wire::Result* r) { r->key.step = 2; },
      [](wire::Result* r) { r->moments.precision = Precision::kF64; },
      [](wire::Result* r) { r->moments = MakeMoments(4); },
      [](wire::Result* r) { r->moments.kind = MomentKind::kSums; },
  };
  for (const auto& change : changes) {
    Session session("10.0.0.1:5000", MakeJoin());
    std::vector<Session::Completion> done;
    wire::CoordinatorMessage joined = Joined();
    session.Receive(&joined, "", now_, &done);
    ASSERT_TRUE(session.Submit(Layer("a"), MakeMoments(), now_, &bytes_).ok());
    wire::CoordinatorMessage result = ResultOf(Sent());
    change(&result.result);
    session.Receive(&result, "", now_, &done);
    ASSERT_THAT(done, SizeIs(1));
    EXPECT_EQ(done[0].result.status().code(), absl::StatusCode::kInternal);
    EXPECT_THAT(Text(done[0].result.status()), HasSubstr("rank 2 of group world (epoch 7)"));
  }
}

TEST_F(SessionTest, RefusesASecondAnswerToARound) {
  Submit(Layer("a"));
  const wire::Contribution first = Sent();
  Submit(Layer("b"));
  Submit(Layer("c"));
  Receive(ResultOf(Sent()));
  Receive(ResultOf(Sent()));
  EXPECT_EQ(session_.phase(), Session::Phase::kFailed);
  EXPECT_THAT(Text(session_.failure()), HasSubstr("round 3 layer c"));
}

TEST_F(SessionTest, RefusesMomentsThatTheCoordinatorWouldRefuseAndUsesNoRoundForThem) {
  const double inf = std::numeric_limits<double>::infinity();
  struct Case {
    void (*change)(Moments*);
    std::string text;
  };
  const std::vector<Case> cases = {
      {[](Moments* m) { m->channels = 0; }, "channels is 0"},
      {[](Moments* m) { m->channels = -1; }, "channels is -1"},
      {[](Moments* m) { m->rows = 0; }, "rows is 0"},
      {[](Moments* m) { m->rows = 3; }, "needs 9 values, got 6"},
      {[](Moments* m) { m->rows = 1, m->values.resize(3); }, "rows=1, expected 2 (mean, M2)"},
      {[](Moments* m) { m->values.pop_back(); }, "needs 6 values, got 5"},
      {[](Moments* m) { m->values[4] = -1; }, "M2 is -1 at channel 1"},
      {[](Moments* m) { m->count = 0; }, "count 0 but value 1.5 at row 0 channel 0"},
      {[](Moments* m) { m->kind = static_cast<MomentKind>(9); }, "kind is 9"},
      {[](Moments* m) { m->precision = static_cast<Precision>(0); }, "precision is 0"},
  };
  for (const Case& c : cases) {
    Moments moments = MakeMoments();
    c.change(&moments);
    const absl::Status status = Refused(Layer("a"), moments);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(Text(status), AllOf(HasSubstr(c.text), HasSubstr("layer a (forward, step 1)"),
                                    HasSubstr("rank 2 of group world")));
  }
  Moments strange = MakeMoments();
  strange.values[0] = inf;
  strange.values[4] = -0.0;
  strange.values[5] = -std::nan("");
  EXPECT_EQ(Submit(Layer("a"), strange), 1u) << "values that are not finite are carried";
}

TEST_F(SessionTest, RefusesLayersWithoutANameAndStrangeKeys) {
  EXPECT_THAT(Text(Refused(Layer(""), MakeMoments())), HasSubstr("the layer's name is empty"));
  ReduceKey key = Layer("a");
  key.direction = static_cast<Direction>(0);
  EXPECT_THAT(Text(Refused(key, MakeMoments())), HasSubstr("direction is 0"));
  key = Layer("a");
  key.dtype = static_cast<DType>(5);
  EXPECT_THAT(Text(Refused(key, MakeMoments())), HasSubstr("dtype is 5"));
}

TEST_F(SessionTest, HoldsWhatGoesOutAgainstTheCoordinatorsLimits) {
  absl::Status status = Refused(Layer("a"), MakeMoments(501));
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(Text(status), HasSubstr("rows=2 channels=501 are 1002 values, the coordinator takes"
                                      " 1000"));
  status = Refused(Layer("a-name-of-20-bytes--"), MakeMoments());
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(Text(status), HasSubstr("has 20 bytes, the coordinator takes 16"));
  EXPECT_EQ(Submit(Layer("a"), MakeMoments(500)), 1u);
}

TEST_F(SessionTest, ARoundWithoutAnAnswerFailsTheMembershipByName) {
  const absl::Time submitted = now_;
  Submit(Layer("bn1", 17));
  EXPECT_EQ(session_.deadline(), submitted + kTimeout + Session::kAnswerSlack);
  session_.Advance(session_.deadline() - absl::Milliseconds(1), &done_);
  EXPECT_THAT(done_, IsEmpty());
  session_.Advance(session_.deadline(), &done_);
  ASSERT_THAT(done_, SizeIs(1));
  const absl::Status& status = done_[0].result.status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_THAT(Text(status), AllOf(HasSubstr("round 1 layer bn1 (forward, step 17)"),
                                  HasSubstr("rank 2 of group world (epoch 7) at 10.0.0.1:5000"),
                                  HasSubstr("10.05s"), HasSubstr("round timeout 10s")));
  EXPECT_EQ(syncnorm::FailureOf(status)->key.layer, "bn1");
  EXPECT_EQ(Refused(Layer("bn2"), MakeMoments()), status);
}

TEST_F(SessionTest, EveryQueuedRoundHasItsOwnClock) {
  const absl::Time start = now_;
  Submit(Layer("a"));
  const wire::Contribution first = Sent();
  now_ += absl::Seconds(9);
  Submit(Layer("b"));
  Receive(ResultOf(first));
  EXPECT_EQ(session_.deadline(), start + absl::Seconds(19) + Session::kAnswerSlack);
  session_.Advance(start + absl::Seconds(19), &done_);
  EXPECT_THAT(done_, SizeIs(1));
}

TEST_F(SessionTest, ARoundHeldUpByAFailedOneSaysWhy) {
  Submit(Layer("a"));
  Submit(Layer("b"));
  now_ += kTimeout + absl::Milliseconds(20);
  Receive(FailureOf(1, absl::StatusCode::kDeadlineExceeded, "round 1: rank 1 host h1 is missing"));
  now_ = session_.deadline();
  session_.Advance(now_, &done_);
  ASSERT_THAT(done_, SizeIs(2));
  EXPECT_THAT(Text(done_[1].result.status()),
              AllOf(HasSubstr("round 2 layer b"),
                    HasSubstr("its last answer came 30ms before: round 1: rank 1 host h1 is "
                              "missing")));
}

TEST_F(SessionTest, TakesABoundedNumberOfRounds) {
  for (size_t i = 0; i < Session::kMaxPending; ++i) Submit(Layer("a"));
  const absl::Status status = Refused(Layer("b"), MakeMoments());
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(Text(status), HasSubstr("layer b, rank 2 of group world (epoch 7) at 10.0.0.1:5000: "
                                      "1024 rounds are under way"));
}

TEST_F(SessionTest, AnAnswerThatComesWithTheDeadlineIsTaken) {
  Submit(Layer("a"));
  now_ = session_.deadline();
  Receive(ResultOf(Sent()));
  ASSERT_THAT(done_, SizeIs(1));
  EXPECT_TRUE(done_[0].result.ok());
}

TEST_F(SessionTest, TheEndOfTheStreamFailsWhatIsPending) {
  Submit(Layer("a"));
  wire::CoordinatorMessage draining;
  draining.kind = wire::CoordinatorMessage::Kind::kDraining;
  draining.draining.text = "SIGTERM";
  Receive(draining);
  EXPECT_THAT(done_, IsEmpty()) << "rounds in flight are finished";
  session_.Closed(absl::CancelledError("reset"), now_, &done_);
  ASSERT_THAT(done_, SizeIs(1));
  EXPECT_TRUE(absl::IsUnavailable(done_[0].result.status()));
  EXPECT_EQ(Text(done_[0].result.status()),
            "lost the coordinator of rank 2 of group world (epoch 7) at 10.0.0.1:5000: reset (it "
            "was going down: SIGTERM)");
}

TEST_F(SessionTest, BytesThatAreNoMessageFailTheMembership) {
  Submit(Layer("a"));
  session_.Garbled(absl::InvalidArgumentError("bytes that are not a message"), &done_);
  ASSERT_THAT(done_, SizeIs(1));
  EXPECT_THAT(Text(done_[0].result.status()), HasSubstr("broke the protocol"));
}

TEST_F(SessionTest, NothingIsSubmittedAfterLeave) {
  wire::WorkerMessage message;
  wire::Codec codec;
  ASSERT_TRUE(codec.Decode(*session_.Leave("done"), &message).ok());
  EXPECT_EQ(message.kind, wire::WorkerMessage::Kind::kLeave);
  EXPECT_EQ(message.leave.reason, "done");
  const absl::Status status = Refused(Layer("a"), MakeMoments());
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Text(status), AllOf(HasSubstr("layer a"), HasSubstr("has left")));
  Receive(FailureOf(0, absl::StatusCode::kAborted, "rank 0 left"));
  EXPECT_EQ(session_.phase(), Session::Phase::kLeft);
}

TEST(SessionJoinTest, SaysTheJoinFirst) {
  Session session("10.0.0.1:5000", MakeJoin());
  wire::WorkerMessage message;
  wire::Codec codec;
  const std::vector<Bytes> start = session.Start();
  ASSERT_THAT(start, SizeIs(1));
  ASSERT_TRUE(codec.Decode(*start[0], &message).ok());
  EXPECT_EQ(message.join.rank, 2u);
  EXPECT_EQ(message.join.join_timeout, absl::Seconds(5));
}

TEST(SessionJoinTest, AnotherProtocolIsRefusedWithBothVersions) {
  Session session("10.0.0.1:5000", MakeJoin());
  wire::CoordinatorMessage joined = Joined();
  joined.joined.protocol_major = 2;
  std::vector<Session::Completion> done;
  session.Receive(&joined, "", absl::UnixEpoch(), &done);
  EXPECT_EQ(session.failure().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(Text(session.failure()), AllOf(HasSubstr("protocol 2.2"), HasSubstr("speaks 1.2")));
}

TEST(SessionJoinTest, AnotherWorldIsABreachOfTheProtocol) {
  Session session("10.0.0.1:5000", MakeJoin());
  wire::CoordinatorMessage joined = Joined();
  joined.joined.world_size = 5;
  std::vector<Session::Completion> done;
  session.Receive(&joined, "", absl::UnixEpoch(), &done);
  EXPECT_THAT(Text(session.failure()), HasSubstr("joined a world of 5, asked for one of 4"));
}

TEST(SessionJoinTest, ARefusedJoinKeepsTheCoordinatorsText) {
  Session session("10.0.0.1:5000", MakeJoin());
  wire::CoordinatorMessage message;
  message.kind = wire::CoordinatorMessage::Kind::kFailure;
  message.failure.code = absl::StatusCode::kAlreadyExists;
  message.failure.text = "rank 2 is held by host h9 pid 5";
  message.failure.group = "world";
  std::vector<Session::Completion> done;
  session.Receive(&message, "", absl::UnixEpoch(), &done);
  EXPECT_TRUE(absl::IsAlreadyExists(session.failure()));
  EXPECT_EQ(Text(session.failure()), "rank 2 is held by host h9 pid 5");
}

// Before it has read the Join the coordinator does not know whose stream it is.
TEST(SessionJoinTest, ARefusalThatNamesNoGroupIsToldWithWhoseItIs) {
  Session session("10.0.0.1:5000", MakeJoin());
  wire::CoordinatorMessage message;
  message.kind = wire::CoordinatorMessage::Kind::kFailure;
  message.failure.code = absl::StatusCode::kResourceExhausted;
  message.failure.text = "all 4096 streams are taken";
  std::vector<Session::Completion> done;
  session.Receive(&message, "", absl::UnixEpoch(), &done);
  EXPECT_EQ(Text(session.failure()),
            "rank 2 of group world at 10.0.0.1:5000: all 4096 streams are taken");
}

TEST(SessionJoinTest, TheTimeoutOfTheGroupHolds) {
  Session session("10.0.0.1:5000", MakeJoin());
  wire::CoordinatorMessage joined = Joined();
  joined.joined.round_timeout = absl::Seconds(2);
  std::vector<Session::Completion> done;
  Bytes bytes;
  session.Receive(&joined, "", absl::UnixEpoch(), &done);
  ASSERT_TRUE(session.Submit(Layer("a"), MakeMoments(), absl::UnixEpoch(), &bytes).ok());
  EXPECT_EQ(session.deadline(), absl::UnixEpoch() + absl::Seconds(2) + Session::kAnswerSlack);
}

}  // namespace
}  // namespace syncnorm
