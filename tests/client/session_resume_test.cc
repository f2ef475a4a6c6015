// A session whose stream breaks: what it brings along, replays, takes and refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/session.h"

namespace syncnorm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using Kind = wire::CoordinatorMessage::Kind;
using Phase = Session::Phase;

constexpr absl::Duration kTimeout = absl::Seconds(10);
constexpr uint64_t kRun = 0xabcdef;

std::string Text(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

wire::Join MakeJoin(OnLoss on_loss = OnLoss::kFail) {
  wire::Join join;
  join.group = "world";
  join.rank = 2;
  join.world_size = 3;
  join.host = "h2";
  join.incarnation = std::string(wire::kIncarnationBytes, 'i');
  join.round_timeout = kTimeout;
  join.join_timeout = absl::Seconds(5);
  join.on_loss = on_loss;
  return join;
}

wire::CoordinatorMessage MakeJoined(uint64_t epoch = 7,
                                    const std::vector<uint32_t>& members = {0, 1, 2}) {
  wire::CoordinatorMessage message;
  message.kind = Kind::kJoined;
  message.joined.epoch = epoch;
  message.joined.world_size = 3;
  message.joined.hosts = {"h0", "h1", "h2"};
  message.joined.limits = {1000, 16, 64, 1 << 20};
  message.joined.round_timeout = kTimeout;
  message.joined.run_id = kRun;
  message.joined.coordinator_id = 5;
  message.joined.first_round = 1;
  message.joined.members = members;
  message.joined.epoch_first_round = 1;
  message.joined.tickets = {21, 22, 23};
  return message;
}

wire::CoordinatorMessage MakeFailure(absl::StatusCode code, std::string text, RoundKey key = {}) {
  wire::CoordinatorMessage message;
  message.kind = Kind::kFailure;
  message.failure.code = code;
  message.failure.key = std::move(key);
  message.failure.text = std::move(text);
  message.failure.group = "world";
  return message;
}

wire::CoordinatorMessage MakeEpochChanged(uint64_t epoch, uint64_t first_round,
                                          const std::vector<uint32_t>& members) {
  wire::CoordinatorMessage message;
  message.kind = Kind::kEpochChanged;
  message.epoch_changed.epoch = epoch;
  message.epoch_changed.first_round = first_round;
  message.epoch_changed.members = members;
  message.epoch_changed.hosts = {"h0", "h1", "h2"};
  return message;
}

wire::WorkerMessage Decoded(const Bytes& bytes) {
  wire::WorkerMessage message;
  EXPECT_NE(bytes, nullptr);
  if (bytes == nullptr) return message;
  EXPECT_TRUE(wire::Codec().Decode(*bytes, &message).ok());
  return message;
}

// A worker and its coordinator's voice, in virtual time.
class Speaker {
 public:
  explicit Speaker(OnLoss on_loss = OnLoss::kFail, wire::CoordinatorMessage joined = MakeJoined())
      : session("10.0.0.1:5000", MakeJoin(on_loss)) {
    Receive(std::move(joined));
    EXPECT_EQ(session.phase(), Phase::kJoined) << session.failure();
  }

  void Receive(wire::CoordinatorMessage message, const std::string& raw = "") {
    session.Receive(&message, raw, now, &done);
  }
  // Gives the round's number; what was to be sent is in `bytes`.
  uint64_t Submit(const std::string& layer) {
    Moments moments = Moments::Sums(1, 2, Precision::kF64);
    moments.count = 4;
    const ReduceKey key{layer, Direction::kForward, 1, DType::kF32};
    const absl::StatusOr<uint64_t> round = session.Submit(key, moments, now, &bytes);
    EXPECT_TRUE(round.ok()) << round.status();
    if (!round.ok()) return 0;
    layers.resize(*round + 1);
    layers[*round] = layer;
    return *round;
  }
  RoundKey Key(uint64_t round) const {
    return {session.epoch(), round, layers[round], Direction::kForward, 1};
  }
  // The coordinator's answer to a round, whose bytes are `raw`.
  void Answer(uint64_t round, const std::string& raw, uint64_t settled = 0) {
    wire::CoordinatorMessage message;
    message.kind = Kind::kResult;
    message.result.key = Key(round);
    message.result.moments = Moments::Sums(1, 2, Precision::kF64);
    message.result.settled = settled;
    Receive(std::move(message), raw);
  }
  void Break(const std::string& why = "reset") {
    session.Closed(absl::UnavailableError(why), now, &done);
  }
  // The Join that a new stream begins with; the answers after it are in `restored`.
  wire::Resume Resume() {
    const std::vector<Bytes> start = session.Start();
    restored.clear();
    EXPECT_THAT(start, Not(IsEmpty()));
    if (start.empty()) return {};
    for (size_t i = 1; i < start.size(); ++i) {
      const wire::WorkerMessage message = Decoded(start[i]);
      EXPECT_EQ(message.kind, wire::WorkerMessage::Kind::kRestored);
      restored.push_back(message.restored.answer);
    }
    const wire::WorkerMessage first = Decoded(start[0]);
    EXPECT_EQ(first.kind, wire::WorkerMessage::Kind::kJoin);
    EXPECT_EQ(first.join.incarnation, MakeJoin().incarnation);
    EXPECT_TRUE(first.join.resume.has_value());
    return first.join.resume.value_or(wire::Resume());
  }
  // Rounds that are sent again.
  std::vector<uint64_t> Replayed() {
    std::vector<uint64_t> rounds;
    for (const Bytes& each : session.TakeReplay()) {
      const wire::WorkerMessage message = Decoded(each);
      EXPECT_EQ(message.kind, wire::WorkerMessage::Kind::kContribution);
      rounds.push_back(message.contribution.key.round);
    }
    return rounds;
  }

  absl::Time now = absl::UnixEpoch() + absl::Hours(1);
  Session session;
  std::vector<Session::Completion> done;
  Bytes bytes;
  std::vector<std::string> layers;  // by round
  std::vector<std::string> restored;
};

TEST(SessionResumeTest, ABrokenStreamEndsNothingAndTheNextOneBeginsWithHowFarItIs) {
  Speaker s;
  s.Submit("a");
  s.Answer(1, "answer 1");
  s.Submit("b");
  s.Break();
  EXPECT_EQ(s.session.phase(), Phase::kAway);
  EXPECT_THAT(s.done, SizeIs(1));
  const wire::Resume resume = s.Resume();
  EXPECT_EQ(resume.run_id, kRun);
  EXPECT_EQ(resume.coordinator_id, 5u);
  EXPECT_EQ(resume.epoch, 7u);
  EXPECT_EQ(resume.answered, 1u);
  EXPECT_EQ(resume.kept, 1u);
  EXPECT_THAT(resume.members, ElementsAre(0, 1, 2));
  EXPECT_FALSE(resume.finished);
  EXPECT_EQ(resume.first_round, 1u);
  EXPECT_THAT(resume.tickets, ElementsAre(21, 22, 23));
  EXPECT_THAT(s.restored, ElementsAre("answer 1"));
}

TEST(SessionResumeTest, WhatIsUnansweredIsSentAgainInOrderOnceItIsJoinedAgain) {
  Speaker s;
  for (const char* layer : {"a", "b", "c"}) s.Submit(layer);
  const Bytes third = s.bytes;
  s.Answer(1, "answer 1");
  s.Break();
  EXPECT_THAT(s.session.TakeReplay(), IsEmpty()) << "not before the Joined";
  s.Resume();
  EXPECT_THAT(s.session.TakeReplay(), IsEmpty());
  s.Receive(MakeJoined());
  EXPECT_EQ(s.session.phase(), Phase::kJoined);
  const std::vector<Bytes> replay = s.session.TakeReplay();
  ASSERT_THAT(replay, SizeIs(2));
  EXPECT_EQ(Decoded(replay[0]).contribution.key.round, 2u);
  EXPECT_EQ(*replay[1], *third) << "byte for byte";
  EXPECT_THAT(s.session.TakeReplay(), IsEmpty()) << "once";
  s.Answer(2, "answer 2");
  s.Answer(3, "answer 3");
  EXPECT_THAT(s.done, SizeIs(3));
  EXPECT_EQ(s.session.pending(), 0u);
}

TEST(SessionResumeTest, ARoundBehindAnUnansweredOneIsSentAgainThoughAnswered) {
  Speaker s;
  s.Submit("a");
  s.Submit("b");
  s.Answer(2, "answer 2");
  s.Break();
  EXPECT_EQ(s.Resume().answered, 0u);
  EXPECT_THAT(s.restored, IsEmpty()) << "the coordinator is told again by the replay";
  s.Receive(MakeJoined());
  EXPECT_THAT(s.Replayed(), ElementsAre(1, 2));
  s.Answer(1, "answer 1");
  s.Answer(2, "answer 2");
  EXPECT_THAT(s.done, SizeIs(2)) << "each ends once";
  EXPECT_EQ(s.session.phase(), Phase::kJoined);
}

TEST(SessionResumeTest, RoundsThatAreSubmittedWhileAwayGoOutWithTheReplay) {
  Speaker s;
  s.Submit("a");
  s.Break();
  EXPECT_EQ(s.Submit("b"), 2u);
  EXPECT_EQ(s.bytes, nullptr) << "there is no stream to send it on";
  s.Resume();
  EXPECT_EQ(s.Submit("c"), 3u);
  EXPECT_EQ(s.bytes, nullptr) << "nor is it joined again";
  s.Receive(MakeJoined());
  EXPECT_THAT(s.Replayed(), ElementsAre(1, 2, 3));
  EXPECT_EQ(s.Submit("d"), 4u);
  EXPECT_NE(s.bytes, nullptr);
}

TEST(SessionResumeTest, EveryStreamThatBreaksIsFollowedByAnother) {
  Speaker s;
  s.Submit("a");
  for (int i = 0; i < 3; ++i) {
    s.Break();
    s.Resume();
    s.Break("refused");
    EXPECT_EQ(s.Resume().answered, 0u);
    s.Receive(MakeJoined());
    if (i < 2) s.Break();  // the replay was not even taken
    if (i < 2) s.Resume(), s.Receive(MakeJoined());
    EXPECT_THAT(s.Replayed(), ElementsAre(1));
  }
}

TEST(SessionResumeTest, AReplayThatWasNotTakenBelongsToItsStream) {
  Speaker s;
  s.Submit("a");
  s.Break();
  s.Resume();
  s.Receive(MakeJoined());
  s.Break();
  EXPECT_THAT(s.session.TakeReplay(), IsEmpty());
}

TEST(SessionResumeTest, AContributionSaysUpToWhereThisMemberHasItsAnswers) {
  Speaker s;
  s.Submit("a");
  EXPECT_EQ(Decoded(s.bytes).contribution.answered, 0u);
  s.Submit("b");
  s.Answer(2, "answer 2");
  s.Submit("c");
  EXPECT_EQ(Decoded(s.bytes).contribution.answered, 0u) << "round 1 is not answered";
  s.Answer(1, "answer 1");
  s.Submit("d");
  EXPECT_EQ(Decoded(s.bytes).contribution.answered, 2u);
}

TEST(SessionResumeTest, TheSameAnswerAgainIsIgnored) {
  Speaker s;
  s.Submit("a");
  s.Submit("b");
  s.Answer(1, "answer 1");
  s.Answer(1, "answer 1");
  EXPECT_THAT(s.done, SizeIs(1));
  EXPECT_EQ(s.session.phase(), Phase::kJoined);
  s.Answer(2, "answer 2", /*settled=*/2);
  s.Answer(1, "forgotten what it was");
  EXPECT_EQ(s.session.phase(), Phase::kJoined) << "what is settled is not compared any more";
}

TEST(SessionResumeTest, AnotherAnswerThanBeforeFailsTheMembership) {
  for (uint64_t again : {1, 2, 3}) {
    Speaker s;
    for (const char* layer : {"a", "b", "c", "d"}) s.Submit(layer);
    for (uint64_t round : {1, 2, 3}) s.Answer(round, "answer");
    s.Answer(again, "another answer");
    EXPECT_EQ(s.session.phase(), Phase::kFailed);
    ASSERT_THAT(s.done, SizeIs(4));
    const absl::Status& status = s.done[3].result.status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(Text(status), AllOf(HasSubstr(absl::StrCat("another answer to round ", again)),
                                    HasSubstr("rank 2 of group world (epoch 7)")));
  }
}

TEST(SessionResumeTest, AFailureIsKeptAndHeldAgainstWhatComesAgainToo) {
  Speaker s;
  s.Submit("a");
  s.Submit("b");
  s.Receive(MakeFailure(absl::StatusCode::kAborted, "rank 1 sent NaN", s.Key(1)), "failure 1");
  EXPECT_EQ(s.session.phase(), Phase::kJoined);
  s.Break();
  s.Resume();
  EXPECT_THAT(s.restored, ElementsAre("failure 1"));
  s.Receive(MakeJoined());
  s.Receive(MakeFailure(absl::StatusCode::kAborted, "rank 1 sent NaN", s.Key(1)), "failure 1");
  EXPECT_EQ(s.session.phase(), Phase::kJoined);
  s.Answer(1, "a result after all");
  EXPECT_EQ(s.session.phase(), Phase::kFailed);
}

TEST(SessionResumeTest, AnswersThatAllMembersHaveAreNotKept) {
  Speaker s;
  for (const char* layer : {"a", "b", "c"}) s.Submit(layer);
  s.Answer(1, "answer 1");
  s.Answer(2, "answer 2");
  EXPECT_EQ(s.session.kept(), 2u);
  s.Answer(3, "answer 3", /*settled=*/2);
  EXPECT_EQ(s.session.kept(), 1u);
  s.Break();
  EXPECT_EQ(s.Resume().kept, 1u);
  EXPECT_THAT(s.restored, ElementsAre("answer 3"));
}

TEST(SessionResumeTest, AnswersAreBroughtAlongInOrderWhateverOrderTheyCameIn) {
  Speaker s;
  for (const char* layer : {"a", "b", "c"}) s.Submit(layer);
  s.Answer(3, "answer 3");
  s.Answer(1, "answer 1");
  s.Answer(2, "answer 2");
  s.Break();
  EXPECT_EQ(s.Resume().answered, 3u);
  EXPECT_THAT(s.restored, ElementsAre("answer 1", "answer 2", "answer 3"));
}

TEST(SessionResumeTest, WhatIsKeptIsBounded) {
  Speaker s;
  for (uint64_t round = 1; round <= Session::kMaxKept + 10; ++round) {
    s.Submit("a");
    s.Answer(round, "answer");  // a member that never tells: nothing settles
  }
  EXPECT_EQ(s.session.kept(), Session::kMaxKept);
  s.Break();
  EXPECT_EQ(s.Resume().kept, Session::kMaxKept);
  EXPECT_THAT(s.restored, SizeIs(Session::kMaxKept));
}

TEST(SessionResumeTest, WhatIsPendingIsBoundedWhileAwayToo) {
  Speaker s;
  s.Break();
  for (size_t i = 0; i < Session::kMaxPending; ++i) s.Submit("a");
  const ReduceKey key{"b", Direction::kForward, 1, DType::kF32};
  const auto refused = s.session.Submit(key, Moments::Sums(1, 2, Precision::kF64), s.now, &s.bytes);
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status())) << refused.status();
}

TEST(SessionResumeTest, ADeadlineWhileAwayNamesTheAddressTheAttemptsAndTheLastError) {
  Speaker s;
  s.Submit("a");
  s.now += absl::Seconds(1);
  s.Break("Socket closed");
  for (int i = 0; i < 3; ++i) s.Resume(), s.Break("Connection refused");
  EXPECT_THAT(s.done, IsEmpty());
  s.now = s.session.deadline() - absl::Milliseconds(1);
  s.session.Advance(s.now, &s.done);
  EXPECT_THAT(s.done, IsEmpty());
  s.now = s.session.deadline();
  s.session.Advance(s.now, &s.done);
  ASSERT_THAT(s.done, SizeIs(1));
  const absl::Status& status = s.done[0].result.status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(
      Text(status),
      AllOf(HasSubstr("rank 2 of group world (epoch 7) at 10.0.0.1:5000 9.05s ago"),
            HasSubstr("3 attempts to come back"), HasSubstr("last error: Connection refused"),
            HasSubstr("round 1 layer a (forward, step 1) waits")));
  EXPECT_EQ(FailureOf(status)->key.layer, "a");
  EXPECT_EQ(s.session.phase(), Phase::kFailed);
}

TEST(SessionResumeTest, TheLastErrorIsThatOfTheLastStream) {
  Speaker s;
  s.Break("Connection refused");
  s.Resume();
  s.Receive(MakeJoined());
  s.session.Closed(absl::OkStatus(), s.now, &s.done);
  EXPECT_THAT(Text(s.session.Away(s.now)),
              AllOf(HasSubstr("last error: it ended the stream"), HasSubstr("0 attempts")));
  s.Resume();
  s.Receive(MakeFailure(absl::StatusCode::kUnavailable, "the coordinator is going down"));
  s.session.Closed(absl::OkStatus(), s.now, &s.done);
  EXPECT_THAT(
      Text(s.session.Away(s.now)),
      AllOf(HasSubstr("last error: the coordinator is going down"), HasSubstr("1 attempts")));
  s.Resume();
  s.Break("Connection refused");
  EXPECT_THAT(Text(s.session.Away(s.now)), HasSubstr("last error: Connection refused"));
}

TEST(SessionResumeTest, ACoordinatorThatIsUnavailableIsNotTheEnd) {
  Speaker s;
  s.Submit("a");
  s.Receive(MakeFailure(absl::StatusCode::kUnavailable, "the coordinator is going down"));
  EXPECT_EQ(s.session.phase(), Phase::kJoined);
  s.session.Closed(absl::OkStatus(), s.now, &s.done);
  EXPECT_EQ(s.session.phase(), Phase::kAway);
  s.Resume();
  s.Receive(MakeFailure(absl::StatusCode::kUnavailable, "not yet"));
  EXPECT_EQ(s.session.phase(), Phase::kAway);
  EXPECT_THAT(s.done, IsEmpty());
}

TEST(SessionResumeTest, EveryOtherFailureOfTheMembershipIsTheEndWithItsText) {
  for (const absl::StatusCode code :
       {absl::StatusCode::kAborted, absl::StatusCode::kFailedPrecondition,
        absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kResourceExhausted,
        absl::StatusCode::kAlreadyExists, absl::StatusCode::kInvalidArgument}) {
    for (bool away : {false, true}) {
      Speaker s;
      s.Submit("a");
      if (away) s.Break(), s.Resume();
      s.Receive(MakeFailure(code, "fenced: rank 2 resumes epoch 7, which is over"));
      EXPECT_EQ(s.session.phase(), Phase::kFailed);
      ASSERT_THAT(s.done, SizeIs(1));
      EXPECT_EQ(s.done[0].result.status().code(), code);
      EXPECT_EQ(Text(s.done[0].result.status()), "fenced: rank 2 resumes epoch 7, which is over");
      s.Break();
      EXPECT_EQ(s.session.phase(), Phase::kFailed) << "there is no coming back from it";
    }
  }
}

TEST(SessionResumeTest, ACoordinatorThatKnowsOfNoResumingIsNotComeBackTo) {
  wire::CoordinatorMessage joined = MakeJoined();
  joined.joined.run_id = 0;
  Speaker s(OnLoss::kFail, joined);
  s.Submit("a");
  s.Answer(1, "answer 1");
  EXPECT_EQ(s.session.kept(), 0u);
  s.Submit("b");
  s.Break("Socket closed");
  EXPECT_EQ(s.session.phase(), Phase::kFailed);
  ASSERT_THAT(s.done, SizeIs(2));
  EXPECT_TRUE(absl::IsUnavailable(s.done[1].result.status()));
  EXPECT_THAT(Text(s.done[1].result.status()), HasSubstr("Socket closed"));
}

TEST(SessionResumeTest, AnotherRunOrAnEarlierTimeIsNotComeBackTo) {
  wire::CoordinatorMessage other = MakeJoined(), earlier = MakeJoined(6);
  other.joined.run_id = kRun + 1;
  for (const wire::CoordinatorMessage& joined : {other, earlier}) {
    Speaker s;
    s.Submit("a");
    s.Break();
    s.Resume();
    s.Receive(joined);
    EXPECT_EQ(s.session.phase(), Phase::kFailed);
    EXPECT_THAT(s.done, SizeIs(1));
  }
}

TEST(SessionResumeTest, AJoinedThatWasNotAskedForIsABreachOfTheProtocol) {
  Speaker s;
  s.Receive(MakeJoined());
  EXPECT_EQ(s.session.phase(), Phase::kFailed);
  EXPECT_THAT(Text(s.session.failure()), HasSubstr("a second Joined"));
}

TEST(SessionResumeTest, LeavingWhileAwayHasNobodyToTell) {
  Speaker s;
  s.Break();
  EXPECT_EQ(s.session.Leave("done"), nullptr);
  EXPECT_EQ(s.session.phase(), Phase::kLeft);
  s.Break();
  EXPECT_EQ(s.session.phase(), Phase::kLeft);
}

TEST(SessionResumeTest, ALeaveWhoseStreamBrokeCanBeSaidAgain) {
  Speaker s;
  ASSERT_NE(s.session.Leave("done"), nullptr);
  s.Break();
  EXPECT_EQ(s.session.phase(), Phase::kLeft);
  EXPECT_TRUE(s.session.ReturnToLeave(s.now));
  EXPECT_EQ(s.session.phase(), Phase::kAway);
  EXPECT_EQ(s.Resume().run_id, kRun);
  s.Receive(MakeJoined());
  EXPECT_EQ(Decoded(s.session.Leave("done")).kind, wire::WorkerMessage::Kind::kLeave);
  wire::CoordinatorMessage old = MakeJoined();
  old.joined.run_id = 0;
  Speaker of_old(OnLoss::kFail, old);
  of_old.session.Leave("done");
  of_old.Break();
  EXPECT_FALSE(of_old.session.ReturnToLeave(of_old.now));
  EXPECT_EQ(of_old.session.phase(), Phase::kLeft);
}

TEST(SessionEpochTest, RoundsGoOnWithOtherMembersUnderTheNextEpoch) {
  Speaker s(OnLoss::kShrink);
  s.Submit("a");
  s.Receive(MakeEpochChanged(9, 2, {0, 2}));
  EXPECT_EQ(s.session.epoch(), 9u);
  EXPECT_THAT(s.session.joined().members, ElementsAre(0, 2));
  EXPECT_FALSE(s.session.TakeAdmission().has_value());
  wire::CoordinatorMessage result;
  result.kind = Kind::kResult;
  result.result.key = s.Key(1);
  result.result.key.epoch = 7;  // of the epoch that it was opened in
  result.result.moments = Moments::Sums(1, 2, Precision::kF64);
  s.Receive(result, "answer 1");
  EXPECT_THAT(s.done, SizeIs(1));
  EXPECT_EQ(s.Submit("b"), 2u);
  EXPECT_EQ(Decoded(s.bytes).contribution.key.epoch, 9u);
  s.Break();
  const wire::Resume resume = s.Resume();
  EXPECT_EQ(resume.epoch, 9u);
  EXPECT_EQ(resume.first_round, 2u);
  EXPECT_THAT(resume.members, ElementsAre(0, 2));
}

TEST(SessionEpochTest, AnEpochThatIsNotALaterOneIsABreachOfTheProtocol) {
  for (uint64_t epoch : {6, 7}) {
    Speaker s(OnLoss::kShrink);
    s.Receive(MakeEpochChanged(epoch, 2, {0, 2}));
    EXPECT_EQ(s.session.phase(), Phase::kFailed);
  }
  Speaker s(OnLoss::kShrink);
  wire::CoordinatorMessage other_world = MakeEpochChanged(8, 2, {0, 2});
  other_world.epoch_changed.hosts.pop_back();
  s.Receive(other_world);
  EXPECT_EQ(s.session.phase(), Phase::kFailed);
}

TEST(SessionEpochTest, ABoundaryTellsOnceWhomItAdmittedAndWhoProvides) {
  for (uint32_t provider : {0, 2}) {
    Speaker s(OnLoss::kShrink, MakeJoined(7, {0, 2}));
    s.Submit("boundary");
    wire::CoordinatorMessage changed = MakeEpochChanged(8, 2, {0, 1, 2});
    changed.epoch_changed.admitted = {1};
    changed.epoch_changed.provider = provider;
    s.Receive(changed);
    const auto admission = s.session.TakeAdmission();
    ASSERT_TRUE(admission.has_value());
    EXPECT_THAT(admission->admitted, ElementsAre(1));
    EXPECT_EQ(admission->provide, provider == 2);
    EXPECT_FALSE(s.session.TakeAdmission().has_value());
  }
}

TEST(SessionEpochTest, AMemberThatWasAwayAtTheBoundaryLearnsWhomItAdmitted) {
  Speaker s(OnLoss::kShrink, MakeJoined(7, {0, 2}));
  s.Submit("boundary");
  s.Break();
  s.Resume();
  wire::CoordinatorMessage early = MakeEpochChanged(8, 2, {0, 1, 2});
  s.Receive(early);
  EXPECT_EQ(s.session.epoch(), 7u) << "the Joined tells it";
  s.Receive(MakeJoined(8, {0, 1, 2}));
  const auto admission = s.session.TakeAdmission();
  ASSERT_TRUE(admission.has_value());
  EXPECT_THAT(admission->admitted, ElementsAre(1));
  EXPECT_FALSE(admission->provide);
}

TEST(SessionEpochTest, AStateIsHandedOverInPieces) {
  Speaker s(OnLoss::kShrink);
  std::string state(2 * Session::kHandoverChunk + 3, 'x');
  for (size_t i = 0; i < state.size(); i += 1000) state[i] = static_cast<char>('a' + i / 1000 % 26);
  const std::vector<Bytes> pieces = s.session.HandOver(state);
  ASSERT_THAT(pieces, SizeIs(3));
  Session late("10.0.0.1:5000", MakeJoin(OnLoss::kShrink));
  std::vector<Session::Completion> none;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const wire::WorkerMessage piece = Decoded(pieces[i]);
    ASSERT_EQ(piece.kind, wire::WorkerMessage::Kind::kHandover);
    EXPECT_EQ(piece.handover.last, i == 2);
    EXPECT_LE(pieces[i]->size(), Session::kHandoverChunk + 64);
    wire::CoordinatorMessage message;
    message.kind = Kind::kHandover;
    message.handover = piece.handover;
    late.Receive(&message, "", s.now, &none);
    EXPECT_EQ(late.phase(), Phase::kJoining);
  }
  wire::CoordinatorMessage joined = MakeJoined(8);
  joined.joined.first_round = 41;
  late.Receive(&joined, "", s.now, &none);
  EXPECT_TRUE(late.handed_over() == state);
  const ReduceKey key{"a", Direction::kForward, 1, DType::kF32};
  EXPECT_EQ(*late.Submit(key, Moments::Sums(1, 2, Precision::kF64), s.now, &s.bytes), 41u)
      << "where the group is";
}

TEST(SessionEpochTest, AStateThatCannotBeGivenIsOnePieceThatSaysWhy) {
  Speaker s(OnLoss::kShrink);
  const std::vector<Bytes> pieces = s.session.HandOver(absl::InternalError("the disk is full"));
  ASSERT_THAT(pieces, SizeIs(1));
  EXPECT_EQ(Decoded(pieces[0]).handover.failure, "INTERNAL: the disk is full");
  EXPECT_FALSE(Decoded(pieces[0]).handover.last);
}

TEST(SessionEpochTest, AStateBeyondTheLimitEndsTheJoinNamingBothSizes) {
  Session late("10.0.0.1:5000", MakeJoin(OnLoss::kShrink));
  absl::Time now = absl::UnixEpoch();
  std::vector<Session::Completion> none;
  const auto receive = [&](size_t bytes) {
    wire::CoordinatorMessage message;
    message.kind = Kind::kHandover;
    message.handover.chunk.resize(bytes);
    late.Receive(&message, "", now, &none);
  };
  receive(Session::kMaxState);
  EXPECT_EQ(late.phase(), Phase::kJoining);
  receive(1);
  EXPECT_TRUE(absl::IsResourceExhausted(late.failure()));
  EXPECT_THAT(Text(late.failure()),
              AllOf(HasSubstr("rank 2 of group world at 10.0.0.1:5000"),
                    HasSubstr("has 134217729 bytes or more, at most 134217728 are taken")));
  EXPECT_TRUE(late.handed_over().empty());
}

TEST(SessionEpochTest, AnEmptyStateIsOnePieceToo) {
  Speaker s(OnLoss::kShrink);
  const std::vector<Bytes> pieces = s.session.HandOver("");
  ASSERT_THAT(pieces, SizeIs(1));
  EXPECT_TRUE(Decoded(pieces[0]).handover.last);
}

TEST(SessionFinishTest, NothingIsSubmittedUntilAllHaveFinished) {
  Speaker s(OnLoss::kFinish);
  s.Submit("a");
  s.Answer(1, "answer 1");
  const absl::StatusOr<Bytes> finish = s.session.Finish();
  ASSERT_TRUE(finish.ok());
  EXPECT_EQ(Decoded(*finish).kind, wire::WorkerMessage::Kind::kFinish);
  EXPECT_TRUE(s.session.finished());
  EXPECT_EQ(*s.session.Finish(), nullptr) << "told once";
  const ReduceKey key{"b", Direction::kForward, 1, DType::kF32};
  const auto refused = s.session.Submit(key, Moments::Sums(1, 2, Precision::kF64), s.now, &s.bytes);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status()));
  EXPECT_THAT(Text(refused.status()), AllOf(HasSubstr("layer b"), HasSubstr("has finished")));
  s.Receive(MakeEpochChanged(8, 2, {0, 1}));
  EXPECT_TRUE(s.session.finished());
  s.Receive(MakeEpochChanged(9, 5, {0}));
  EXPECT_TRUE(s.session.finished());
}

TEST(SessionFinishTest, AnEpochInWhichAllTakePartAgainEndsIt) {
  Speaker s(OnLoss::kFinish);
  s.Submit("a");
  s.Answer(1, "answer 1");
  ASSERT_TRUE(s.session.Finish().ok());
  wire::CoordinatorMessage others = MakeEpochChanged(8, 2, {0, 2});
  s.Receive(others);
  EXPECT_TRUE(s.session.finished()) << "another has finished, before this one was heard";
  wire::CoordinatorMessage all = MakeEpochChanged(9, 12, {0, 1, 2});
  all.epoch_changed.regrouped = true;
  s.Receive(all);
  EXPECT_FALSE(s.session.finished());
  EXPECT_EQ(s.Submit("b"), 12u) << "where the group is";
  EXPECT_EQ(s.session.kept(), 0u);
}

TEST(SessionFinishTest, OneThatFinishedWhileAwayTellsItByItsResume) {
  Speaker s(OnLoss::kFinish);
  s.Break();
  const absl::StatusOr<Bytes> finish = s.session.Finish();
  ASSERT_TRUE(finish.ok());
  EXPECT_EQ(*finish, nullptr);
  EXPECT_TRUE(s.Resume().finished);
}

// The Resume does not tell it, and the Joined that answers it is not one of a regrouping.
TEST(SessionFinishTest, OneThatFinishedWhileItsResumeWasOnItsWayTellsItOnceItIsBack) {
  Speaker s(OnLoss::kFinish);
  s.Break();
  EXPECT_FALSE(s.Resume().finished);
  const absl::StatusOr<Bytes> finish = s.session.Finish();
  ASSERT_TRUE(finish.ok());
  EXPECT_EQ(*finish, nullptr);
  s.Receive(MakeJoined(7));
  EXPECT_TRUE(s.session.finished());
  const std::vector<Bytes> replay = s.session.TakeReplay();
  ASSERT_THAT(replay, SizeIs(1));
  EXPECT_EQ(Decoded(replay[0]).kind, wire::WorkerMessage::Kind::kFinish);
}

TEST(SessionFinishTest, AJoinedWithThisMemberEndsItsFinish) {
  Speaker s(OnLoss::kFinish);
  for (uint64_t round : {1, 2}) s.Submit("a"), s.Answer(round, "answer");
  ASSERT_TRUE(s.session.Finish().ok());
  s.Break();
  EXPECT_TRUE(s.Resume().finished);
  s.Receive(MakeJoined(8, {0, 1}));
  EXPECT_TRUE(s.session.finished()) << "the others go on";
  s.Break();
  s.Resume();
  wire::CoordinatorMessage joined = MakeJoined(9);
  joined.joined.first_round = 12;
  s.Receive(joined);
  EXPECT_FALSE(s.session.finished());
  EXPECT_EQ(s.session.kept(), 0u) << "whoever takes part has all answers from before";
  EXPECT_EQ(s.Submit("b"), 12u);
  EXPECT_FALSE(s.session.TakeAdmission().has_value());
}

TEST(SessionFinishTest, WithTheDefaultPolicyThereIsNoFinish) {
  Speaker s;
  const absl::Status refused = s.session.Finish().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_THAT(Text(refused), HasSubstr("the group's policy on_loss is fail"));
}

TEST(SessionFinishTest, OneThatHasLeftOrFailedDoesNotFinish) {
  Speaker left(OnLoss::kFinish), failed(OnLoss::kFinish);
  left.session.Leave("done");
  EXPECT_THAT(Text(left.session.Finish().status()), HasSubstr("has left"));
  failed.Receive(MakeFailure(absl::StatusCode::kAborted, "rank 1 disconnected"));
  EXPECT_EQ(Text(failed.session.Finish().status()), "rank 1 disconnected");
}

}  // namespace
}  // namespace syncnorm
