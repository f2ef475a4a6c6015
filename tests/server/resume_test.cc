// Members that come back: to the coordinator they had, and to one that was started again.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/core_worker.h"
#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr absl::Duration kGrace = absl::Milliseconds(150);
constexpr absl::Duration kResume = absl::Seconds(30);

class ResumeTest : public testing::Test {
 protected:
  // Workers of one group, joined.
  std::vector<CoreWorker> Form(uint32_t size, OnLoss on_loss = OnLoss::kFail) {
    std::vector<CoreWorker> workers = FormUnheard(&first_, size, /*unheard=*/size, on_loss);
    for (CoreWorker& worker : workers) EXPECT_TRUE(worker.joined());
    return workers;
  }
  // The same, but that the rank `unheard` has not read its Joined.
  static std::vector<CoreWorker> FormUnheard(CoreWorld* world, uint32_t size, uint32_t unheard,
                                             OnLoss on_loss = OnLoss::kFail) {
    std::vector<CoreWorker> workers;
    for (uint32_t rank = 0; rank < size; ++rank) {
      wire::Join join = MakeJoin(rank, size);
      join.on_loss = on_loss;
      workers.emplace_back(join);
    }
    for (CoreWorker& worker : workers) worker.Join(world);
    for (CoreWorker& worker : workers) {
      if (worker.rank() != unheard) worker.Take();
    }
    return workers;
  }
  static void Reduce(std::vector<CoreWorker>* workers, int rounds = 1) {
    for (int i = 0; i < rounds; ++i) {
      for (CoreWorker& worker : *workers) worker.Contribute();
      for (CoreWorker& worker : *workers) worker.Take();
    }
    for (const CoreWorker& worker : *workers) EXPECT_EQ(worker.unanswered(), 0u);
  }
  // The coordinator dies and is started again.
  CoreWorld* Restart() {
    lives_.push_back(std::make_unique<CoreWorld>(WithGrace(2 + lives_.size())));
    return lives_.back().get();
  }
  static CoreWorker Stranger(uint32_t rank, uint32_t size, OnLoss on_loss = OnLoss::kFail) {
    wire::Join join = MakeJoin(rank, size);
    join.incarnation = "another process.";
    join.pid = 999;
    join.ticket = 999;
    join.on_loss = on_loss;
    return CoreWorker(join);
  }

  CoreWorld first_{WithGrace(1)};
  std::vector<std::unique_ptr<CoreWorld>> lives_;
};

// The same coordinator.

TEST_F(ResumeTest, AMemberThatComesBackWithinTheGraceGoesOnAsIfNothingHadBeen) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers);
  workers[1].Disconnect();
  EXPECT_EQ(first_.core().snapshot().away, 1u);
  first_.Pass(kGrace - absl::Milliseconds(1));
  EXPECT_TRUE(workers[0].Take().empty());
  workers[1].Resume(&first_);
  workers[1].Take();
  EXPECT_TRUE(workers[1].joined());
  EXPECT_EQ(first_.core().snapshot().away, 0u);
  first_.Pass(absl::Seconds(1));
  Reduce(&workers, 3);
  EXPECT_TRUE(workers[0].failures().empty());
  EXPECT_EQ(workers[1].known().epoch, 1u);
}

TEST_F(ResumeTest, AMemberThatDoesNotComeBackWithinTheGraceIsLostAndNamed) {
  std::vector<CoreWorker> workers = Form(2);
  workers[0].Contribute();
  workers[1].Disconnect();
  EXPECT_EQ(first_.core().NextDeadline(), first_.now() + kGrace);
  first_.Pass(kGrace);
  workers[0].Take();
  ASSERT_EQ(workers[0].failures().size(), 1u);
  const Failure failure = workers[0].failures()[0];
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
  EXPECT_THAT(failure.text, HasSubstr("rank 1 (host h1, pid 101) disconnected and did not come "
                                      "back within 150ms; it contributed to no round"));
  workers[1].Resume(&first_);
  const Failure fenced = workers[1].TakeFailure();
  EXPECT_EQ(fenced.code, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(fenced.text, AllOf(HasSubstr("fenced: rank 1 (host h1, pid 101) resumes epoch 1, "
                                           "which is over"),
                                 HasSubstr("did not come back"), HasSubstr("join again")));
}

TEST_F(ResumeTest, AMemberThatWasAwayWhenAnotherEndedTheEpochIsToldWhatEndedIt) {
  std::vector<CoreWorker> workers = Form(3);
  workers[1].Disconnect();
  workers[2].Disconnect();
  first_.Pass(kGrace);
  workers[0].Take();
  // Rank 1 ended it; rank 2 was lost with the group.
  workers[2].Resume(&first_);
  const Failure failure = workers[2].TakeFailure();
  EXPECT_EQ(failure, workers[0].failures().at(0));
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
}

TEST_F(ResumeTest, AContributionThatIsSentAgainAfterComingBackCountsOnce) {
  std::vector<CoreWorker> workers = Form(2);
  workers[1].Contribute();
  workers[1].Disconnect();
  workers[1].Resume(&first_);
  workers[1].Take();
  EXPECT_EQ(first_.core().snapshot().rounds.repeats, 1u);
  workers[0].Contribute();
  workers[0].Take();
  workers[1].Take();
  EXPECT_EQ(workers[0].answers(), workers[1].answers());
  EXPECT_EQ(workers[0].answers().size(), 1u);
}

TEST_F(ResumeTest, ARoundThatCompletedWhileAMemberWasAwayIsAnsweredWithTheSameBytes) {
  std::vector<CoreWorker> workers = Form(2);
  workers[1].Contribute();
  workers[1].Disconnect();
  workers[0].Contribute();
  workers[0].Take();
  ASSERT_EQ(workers[0].answers().size(), 1u);
  workers[1].Resume(&first_);
  workers[1].Take();
  EXPECT_EQ(workers[1].answers(), workers[0].answers());
}

// Between its Joined and what it sends again the round completes: it is answered once.
TEST_F(ResumeTest, ARoundThatCompletesBeforeItIsSentAgainIsAnsweredOnce) {
  std::vector<CoreWorker> workers = Form(2);
  workers[1].Contribute();
  workers[1].Disconnect();
  workers[1].Resume(&first_);
  workers[0].Contribute();
  workers[1].Take();
  workers[0].Take();
  EXPECT_EQ(workers[1].answers(), workers[0].answers());
  Reduce(&workers);
}

TEST_F(ResumeTest, TheOldStreamIsClosedWhenTheMemberResumesBeforeItsEndWasSeen) {
  std::vector<CoreWorker> workers = Form(2);
  const StreamId old = workers[1].stream();
  workers[1].Resume(&first_);
  EXPECT_TRUE(first_.closed(old));
  const Failure failure = first_.TakeFailure(old);
  EXPECT_THAT(failure.text, HasSubstr("has joined again, on another stream"));
  workers[1].Take();
  EXPECT_TRUE(workers[1].joined());
  EXPECT_EQ(first_.core().snapshot().streams, 2u);
  Reduce(&workers);
}

TEST_F(ResumeTest, AnswersBroughtToTheCoordinatorThatGaveThemAreSwallowed) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers, 2);
  workers[1].Disconnect();
  workers[1].ResumeSilently(&first_);
  EXPECT_TRUE(first_.Take(workers[1].stream()).empty()) << "Joined only after they are read";
  EXPECT_EQ(first_.answers(workers[1].stream()), 1);
  workers[1].Restore();
  workers[1].Take();
  EXPECT_TRUE(workers[1].joined());
  EXPECT_EQ(first_.answers(workers[1].stream()), 1 + static_cast<int>(workers[1].known().kept));
  Reduce(&workers);
}

TEST_F(ResumeTest, AnAnswerThatWasNotAnnouncedBreaksTheProtocol) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers);
  first_.Restore(workers[1].stream(), workers[1].answers().at(1));
  EXPECT_THAT(workers[1].TakeFailure().text, HasSubstr("an answer that was not announced"));
  EXPECT_TRUE(first_.closed(workers[1].stream()));
}

TEST_F(ResumeTest, AMemberThatIsAwayMayComeBackToAGroupThatOthersAreLeaving) {
  std::vector<CoreWorker> workers = Form(2);
  workers[1].Contribute();
  workers[1].Disconnect();
  workers[0].Contribute();
  workers[0].Take();
  workers[0].Leave();
  workers[1].Resume(&first_);
  workers[1].Take();
  EXPECT_EQ(workers[1].answers(), workers[0].answers());
  EXPECT_TRUE(workers[1].failures().empty());
  workers[1].Leave();
  EXPECT_EQ(first_.core().snapshot().groups, 0u);
}

TEST_F(ResumeTest, AnotherProcessCannotResumeAMembersPlace) {
  std::vector<CoreWorker> workers = Form(2);
  CoreWorker thief = Stranger(1, 2);
  thief.known() = workers[1].known();
  thief.Resume(&first_);
  EXPECT_EQ(thief.TakeFailure().code, absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(first_.closed(thief.stream()));
  Reduce(&workers);
}

TEST_F(ResumeTest, ARunOfAnotherGroupIsNotFoundUnderAnotherName) {
  std::vector<CoreWorker> workers = Form(2);
  CoreWorker stranger = Stranger(0, 1);
  stranger.join().group = "other";
  stranger.known() = workers[0].known();
  workers[0].Disconnect();
  workers[1].Disconnect();
  first_.Pass(kGrace);
  stranger.known().members = {0};
  stranger.Resume(&first_);
  const Failure failure = stranger.TakeFailure();
  EXPECT_EQ(failure.code, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(failure.text, Not(HasSubstr("world")));
}

TEST_F(ResumeTest, AWorkerThatJoinsAnewBeforeItHeardThatItHasJoinedTakesItsOwnSeat) {
  std::vector<CoreWorker> workers = FormUnheard(&first_, 2, /*unheard=*/1);
  const StreamId old = workers[1].stream();
  workers[0].Contribute();
  workers[1].Join(&first_);
  EXPECT_TRUE(first_.closed(old));
  workers[1].Take();
  ASSERT_TRUE(workers[1].joined());
  EXPECT_EQ(workers[1].known().epoch, workers[0].known().epoch);
  workers[1].Contribute();
  for (CoreWorker& worker : workers) {
    worker.Take();
    EXPECT_EQ(worker.unanswered(), 0u);
  }
}

// It may have had results of the first one, of which the others have not heard.
TEST_F(ResumeTest, ASecondMembershipOfAProcessIsNotTakenForTheFirst) {
  std::vector<CoreWorker> workers = Form(2);
  workers[1].Join(&first_);
  workers[0].Take();
  ASSERT_EQ(workers[0].failures().size(), 1u);
  EXPECT_THAT(workers[0].failures()[0].text,
              HasSubstr("was replaced by rank 1 (host h1, pid 101)"));
}

TEST_F(ResumeTest, AJoinThatWasLongOnItsWayHarmsNobody) {
  std::vector<CoreWorker> workers = Form(2);
  workers[1].Disconnect();
  workers[1].Resume(&first_);
  const StreamId late = first_.Join(MakeJoin(1, 2));
  EXPECT_THAT(first_.TakeFailure(late).text, HasSubstr("knows that it has joined"));
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[1].Resume(second);
  const StreamId later = second->Join(MakeJoin(1, 2));
  EXPECT_THAT(second->TakeFailure(later).text, HasSubstr("knows that it has joined"));
  workers[0].Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers);
}

TEST_F(ResumeTest, AWorkerThatJoinsAnewTakesItsOldStreamsPlaceAndHarmsNobodyAfterwards) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers);
  const StreamId old = workers[1].stream();
  workers[1].Join(&first_);
  EXPECT_TRUE(first_.closed(old)) << "nobody reads it any more";
  workers[0].Take();
  workers[0].Leave();
  EXPECT_EQ(first_.core().snapshot().streams, 1u);
  first_.Disconnect(old);
  workers[0].Join(&first_);
  workers[0].Take();
  workers[1].Take();
  Reduce(&workers);
}

// A coordinator that was started again.

TEST_F(ResumeTest, ARestartedCoordinatorGoesOnWhenAllMembersHaveResumed) {
  std::vector<CoreWorker> workers = Form(3);
  Reduce(&workers, 4);
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) {
    EXPECT_EQ(second->core().snapshot().rounds.completed, 0u);
    worker.Resume(second);
  }
  const uint64_t run = workers[0].known().run_id;
  for (CoreWorker& worker : workers) {
    worker.Take();
    EXPECT_TRUE(worker.joined());
    EXPECT_EQ(worker.known().run_id, run);
    EXPECT_EQ(worker.known().epoch, 1u);
    EXPECT_EQ(worker.known().coordinator_id, 2u);
    EXPECT_EQ(worker.next(), 5u);
  }
  Reduce(&workers, 2);
  EXPECT_EQ(workers[0].answers(), workers[2].answers());
}

TEST_F(ResumeTest, ResultsAfterARestartAreThoseOfAnUndisturbedRun) {
  std::vector<CoreWorker> undisturbed = Form(3);
  Reduce(&undisturbed, 6);
  CoreWorld other(WithGrace(9));
  std::vector<CoreWorker> workers;
  for (uint32_t rank = 0; rank < 3; ++rank) workers.emplace_back(MakeJoin(rank, 3));
  for (CoreWorker& worker : workers) worker.Join(&other);
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers, 3);
  workers[0].Contribute();
  workers[2].Contribute();
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  workers[1].Contribute();
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers, 2);
  wire::Codec codec;
  wire::CoordinatorMessage one, two;
  for (uint64_t round = 1; round <= 6; ++round) {
    ASSERT_TRUE(codec.Decode(workers[1].answers().at(round), &one).ok());
    ASSERT_TRUE(codec.Decode(undisturbed[1].answers().at(round), &two).ok());
    EXPECT_EQ(one.result.moments, two.result.moments) << round;
  }
}

TEST_F(ResumeTest, AnAnswerThatOnlyOneMemberGotIsGivenToTheOthersAfterARestart) {
  std::vector<CoreWorker> workers = Form(3);
  for (CoreWorker& worker : workers) worker.Contribute();
  workers[1].Take();  // the only one whose connection brought it
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_EQ(second->core().snapshot().rounds.completed, 0u);
  EXPECT_EQ(workers[0].answers(), workers[1].answers());
  EXPECT_EQ(workers[2].answers(), workers[1].answers());
  Reduce(&workers);
}

TEST_F(ResumeTest, ARoundThatFailedForOneMemberStaysFailedForAllAfterARestart) {
  std::vector<CoreWorker> workers = Form(2);
  workers[0].Contribute();
  first_.Pass(absl::Seconds(60));
  workers[0].Take();
  ASSERT_EQ(workers[0].answers().size(), 1u);
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  workers[1].Contribute();
  workers[1].Take();
  EXPECT_EQ(workers[1].answers(), workers[0].answers());
  Reduce(&workers);
}

TEST_F(ResumeTest, AContributionAtAnotherPlaceThanARestoredResultEndsTheEpoch) {
  std::vector<CoreWorker> workers = Form(2);
  for (CoreWorker& worker : workers) worker.Contribute();
  workers[0].Take();
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  workers[1].Resume(second);
  workers[0].Take();
  second->Take(workers[1].stream());
  Sent sent;
  sent.layer = "elsewhere";
  second->Contribute(workers[1].stream(), sent);
  EXPECT_THAT(workers[0].TakeFailure().text,
              AllOf(HasSubstr("rank 1 (host h1, pid 101) sent it again with other contents"),
                    HasSubstr("elsewhere"), HasSubstr("after its result")));
}

TEST_F(ResumeTest, TwoDifferentAnswersToOneRoundEndTheRunForAll) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  workers[1].ResumeSilently(second);
  wire::Codec codec;
  wire::CoordinatorMessage message;
  ASSERT_TRUE(codec.Decode(workers[1].answers().at(1), &message).ok());
  message.result.moments.values[0] += 1;
  second->Restore(workers[1].stream(), codec.Encode(message.result));
  const Failure failure = workers[0].TakeFailure();
  EXPECT_EQ(failure.code, absl::StatusCode::kAborted);
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
  EXPECT_THAT(failure.text, HasSubstr("got another answer than the members before it"));
  EXPECT_EQ(workers[1].TakeFailure(), failure);
  EXPECT_EQ(second->core().snapshot().groups, 0u);
}

TEST_F(ResumeTest, AnAnswerThatNobodyBringsEndsTheRunForAll) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers, 2);
  CoreWorld* second = Restart();
  workers[1].known().answered = 0;
  workers[0].known().kept = 0;
  wire::Join join = workers[0].join();
  join.resume = workers[0].known();
  const StreamId zero = second->Join(join);
  join = workers[1].join();
  join.resume = workers[1].known();
  const StreamId one = second->Join(join);
  const Failure failure = second->TakeFailure(zero);
  EXPECT_EQ(failure.code, absl::StatusCode::kAborted);
  EXPECT_THAT(failure.text, HasSubstr("the answer to round 1 is lost"));
  EXPECT_EQ(second->TakeFailure(one), failure);
}

TEST_F(ResumeTest, AnAnswerToARoundThatItsMemberDoesNotSayWasAnsweredBreaksTheProtocol) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers, 3);
  CoreWorld* second = Restart();
  wire::Join join = workers[0].join();
  join.resume = workers[0].known();
  join.resume->answered = 1;
  join.resume->kept = 1;
  const StreamId stream = second->Join(join);
  second->Restore(stream, workers[0].answers().at(3));
  EXPECT_THAT(second->TakeFailure(stream).text, HasSubstr("an answer to round 3"));
  EXPECT_TRUE(second->closed(stream));
}

TEST_F(ResumeTest, AMemberThatDoesNotComeBackToARestartedCoordinatorIsNamedAtTheDeadline) {
  std::vector<CoreWorker> workers = Form(3);
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  workers[2].Resume(second);
  EXPECT_LE(second->core().NextDeadline(), second->now() + kResume);
  second->Pass(kResume - absl::Milliseconds(1));
  EXPECT_TRUE(workers[0].Take().empty());
  second->Pass(absl::Milliseconds(1));
  const Failure failure = workers[0].TakeFailure();
  EXPECT_EQ(failure.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(failure.ranks, std::vector<uint32_t>{1});
  EXPECT_THAT(failure.text, HasSubstr("rank 1 did not resume within 30.0 s, after the coordinator "
                                      "was started again; present: ranks 0,2"));
  EXPECT_EQ(workers[2].TakeFailure(), failure);
  workers[1].Resume(second);
  EXPECT_EQ(workers[1].TakeFailure().code, absl::StatusCode::kFailedPrecondition);
}

TEST_F(ResumeTest, UnderShrinkTheOthersGoOnWithoutTheMemberThatDoesNotComeBack) {
  std::vector<CoreWorker> workers = Form(3, OnLoss::kShrink);
  Reduce(&workers, 2);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  workers[2].Resume(second);
  second->Pass(kResume);
  for (const int rank : {0, 2}) {
    workers[rank].Take();
    EXPECT_TRUE(workers[rank].joined());
    EXPECT_EQ(workers[rank].known().members, (std::vector<uint32_t>{0, 2}));
    EXPECT_GT(workers[rank].known().epoch, 1u);
  }
  workers[0].Contribute();
  workers[2].Contribute();
  workers[0].Take();
  EXPECT_EQ(workers[0].answers().count(3), 1u);
  workers[1].Resume(second);
  EXPECT_THAT(workers[1].TakeFailure().text, HasSubstr("fenced"));
}

TEST_F(ResumeTest, UnderShrinkAMemberThatDoesNotBringItsAnswersIsGoneWithoutToo) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kShrink);
  Reduce(&workers, 2);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  workers[1].ResumeSilently(second);
  second->Pass(kResume);
  EXPECT_EQ(workers[1].TakeFailure().code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(second->closed(workers[1].stream()));
  workers[0].Take();
  EXPECT_TRUE(workers[0].joined());
  EXPECT_EQ(workers[0].known().members, std::vector<uint32_t>{0});
}

// A member whose Joined got lost with the coordinator does not know that there is a run.

TEST_F(ResumeTest, AMemberThatHasNotHeardOfItsRunIsSeatedInIt) {
  for (const OnLoss on_loss : {OnLoss::kFail, OnLoss::kShrink, OnLoss::kFinish}) {
    CoreWorld first(WithGrace(1));
    std::vector<CoreWorker> workers = FormUnheard(&first, 2, /*unheard=*/1, on_loss);
    workers[0].Contribute();
    CoreWorld* second = Restart();
    workers[0].Resume(second);
    workers[1].Join(second);
    for (CoreWorker& worker : workers) {
      worker.Take();
      EXPECT_TRUE(worker.joined());
      EXPECT_EQ(worker.known().epoch, workers[0].known().epoch);
      EXPECT_EQ(worker.known().run_id, workers[0].known().run_id);
    }
    workers[1].Contribute();
    for (CoreWorker& worker : workers) worker.Take();
    EXPECT_EQ(workers[0].answers(), workers[1].answers());
    EXPECT_EQ(workers[1].answers().size(), 1u);
  }
}

TEST_F(ResumeTest, OneThatTakesThePlaceOfAMemberEndsARunEvenIfNobodyHasAnAnswer) {
  std::vector<CoreWorker> workers = Form(2);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  CoreWorker fresh = Stranger(1, 2);
  fresh.Join(second);
  EXPECT_EQ(workers[0].TakeFailure().code, absl::StatusCode::kAborted);
  workers[0].Join(second);
  fresh.Take();
  EXPECT_TRUE(fresh.joined());
  EXPECT_NE(fresh.known().run_id, workers[1].known().run_id)
      << "which others may have gone on with";
}

TEST_F(ResumeTest, TheSameProcessWithAnotherMembershipTakesThePlaceOfTheOneBefore) {
  std::vector<CoreWorker> workers = Form(2);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  workers[1].Join(second);  // has heard, and may have had results
  EXPECT_EQ(workers[0].TakeFailure().code, absl::StatusCode::kAborted);
}

// A superseded process is first to resume; the one that took its place was a member of its own run.
TEST_F(ResumeTest, ARunIsGoneOnWithByItsMembersOnly) {
  std::vector<CoreWorker> workers = Form(2);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  CoreWorker fresh = Stranger(1, 2);
  fresh.Join(second);
  workers[0].Take();
  workers[0].Join(second);
  std::vector<CoreWorker> later = {workers[0], fresh};
  for (CoreWorker& worker : later) worker.Take();
  Reduce(&later, 2);
  CoreWorld* third = Restart();
  workers[1].Resume(third);  // of the run before
  CoreWorker another = Stranger(0, 2);
  another.Join(third);
  EXPECT_EQ(workers[1].TakeFailure().code, absl::StatusCode::kAborted);
  another.Take();
  EXPECT_FALSE(another.joined());
}

TEST_F(ResumeTest, UnderShrinkOneThatTakesThePlaceOfAMemberWaitsThoughNobodyHasAnAnswer) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kShrink);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  CoreWorker fresh = Stranger(1, 2, OnLoss::kShrink);
  fresh.Join(second);
  workers[0].Take();
  EXPECT_EQ(workers[0].known().members, std::vector<uint32_t>{0});
  EXPECT_TRUE(fresh.Take().empty());
}

TEST_F(ResumeTest, AMemberThatHasNotHeardOfItsRunGivesWayToOnesThatHave) {
  std::vector<CoreWorker> workers = FormUnheard(&first_, 2, /*unheard=*/0);
  CoreWorld* second = Restart();
  workers[0].Join(second);
  workers[1].Resume(second);
  workers[0].Take();
  EXPECT_FALSE(workers[0].joined()) << "told that the coordinator is not ready: joins again";
  workers[0].Join(second);
  for (CoreWorker& worker : workers) {
    worker.Take();
    EXPECT_TRUE(worker.joined());
  }
  Reduce(&workers);
  EXPECT_EQ(workers[0].known().run_id, workers[1].known().run_id);
}

// Rounds that failed by their deadline, as it had not heard.
TEST_F(ResumeTest, AMemberThatHasNotHeardOfItsRunIsToldWhatTheOthersWere) {
  std::vector<CoreWorker> workers = FormUnheard(&first_, 2, /*unheard=*/1);
  workers[0].Contribute();
  first_.Pass(absl::Seconds(60));
  workers[0].Take();
  ASSERT_EQ(workers[0].answers().size(), 1u);
  CoreWorld* second = Restart();
  workers[1].Join(second);
  workers[0].Resume(second);
  workers[1].Take();
  workers[1].Join(second);
  for (CoreWorker& worker : workers) {
    worker.Take();
    EXPECT_TRUE(worker.joined());
  }
  workers[1].Contribute();
  workers[1].Take();
  EXPECT_EQ(workers[0].answers(), workers[1].answers());
  Reduce(&workers);
}

TEST_F(ResumeTest, AFreshWorkerEndsTheResumptionAndIsInANewGroup) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  CoreWorker fresh = Stranger(1, 2);
  fresh.Join(second);
  const Failure failure = workers[0].TakeFailure();
  EXPECT_EQ(failure.code, absl::StatusCode::kAborted);
  EXPECT_THAT(failure.text, HasSubstr("rank 1 (host h1, pid 999) has started anew, so that epoch 1 "
                                      "cannot be resumed"));
  workers[0].Join(second);
  workers[0].Take();
  fresh.Take();
  EXPECT_TRUE(fresh.joined());
  EXPECT_EQ(fresh.known().epoch, 2u) << "epochs grow across restarts";
  EXPECT_NE(fresh.known().run_id, 0u);
}

TEST_F(ResumeTest, OneThatDoesNotAgreeWithARunThatResumesIsRefusedAloneNamingBothValues) {
  std::vector<CoreWorker> workers = Form(3);
  workers[0].join().job = "run-1";
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  wire::Join world_size = Stranger(1, 7).join(), on_loss = Stranger(1, 3).join();
  wire::Join non_finite = on_loss, job = on_loss;
  on_loss.on_loss = OnLoss::kShrink;
  non_finite.non_finite = NonFinite::kDrop;
  job.job = "run-2";
  const std::pair<wire::Join, const char*> cases[] = {
      {world_size, "says world_size 7, rank 0 (host h0, pid 100) said 3 before"},
      {on_loss, "says on_loss shrink, rank 0 (host h0, pid 100) said fail before"},
      {non_finite, "says non_finite drop, rank 0 (host h0, pid 100) said fail before"},
      {job, "belongs to job \"run-2\", rank 0 (host h0, pid 100) to job \"run-1\""},
  };
  for (const auto& [join, text] : cases) {
    const Failure failure = second->TakeFailure(second->Join(join));
    EXPECT_THAT(failure.text, AllOf(HasSubstr("rank 1 (host h1, pid 999)"), HasSubstr(text),
                                    HasSubstr("the run is resumed without the newcomer")));
  }
  for (const int rank : {1, 2}) workers[rank].Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers);
  EXPECT_EQ(workers[2].known().epoch, 1u);
}

TEST_F(ResumeTest, AFreshWorkerDoesNotBeginARunAgainInWhichAMemberHasFinished) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  workers[1].Finish();  // with no answer at all, while the other goes on
  for (CoreWorker& worker : workers) worker.Take();
  workers[0].Contribute();
  workers[0].Take();
  EXPECT_EQ(workers[0].unanswered(), 0u);
  CoreWorld* second = Restart();
  workers[1].Resume(second);
  CoreWorker fresh = Stranger(0, 2, OnLoss::kFinish);
  fresh.Join(second);
  const Failure failure = workers[1].TakeFailure();
  EXPECT_EQ(failure.code, absl::StatusCode::kAborted);
  EXPECT_THAT(failure.text, HasSubstr("has started anew"));
}

TEST_F(ResumeTest, UnderShrinkAFreshWorkerWaitsWhileTheOthersResume) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kShrink);
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  CoreWorker fresh = Stranger(1, 2, OnLoss::kShrink);
  fresh.Join(second);
  workers[0].Take();
  EXPECT_TRUE(workers[0].joined());
  EXPECT_EQ(workers[0].known().members, std::vector<uint32_t>{0});
  EXPECT_GT(workers[0].known().epoch, 1u) << "other members, another epoch";
  EXPECT_TRUE(fresh.Take().empty());
  workers[0].Contribute(/*boundary=*/true);
  workers[0].Take();
  EXPECT_EQ(workers[0].changes().back().admitted, std::vector<uint32_t>{1});
  workers[0].HandOver("state", true);
  fresh.Take();
  EXPECT_TRUE(fresh.joined());
}

// The one that waits to be admitted is quicker than the members.
TEST_F(ResumeTest, UnderShrinkAFreshWorkerThatIsFirstDoesNotEndTheRun) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kShrink);
  Reduce(&workers);
  CoreWorld* second = Restart();
  CoreWorker fresh = Stranger(1, 2, OnLoss::kShrink);
  fresh.Join(second);
  workers[0].Resume(second);
  EXPECT_EQ(fresh.TakeFailure().code, absl::StatusCode::kUnavailable) << "it tries again";
  fresh.Join(second);
  workers[0].Take();
  EXPECT_TRUE(workers[0].joined());
  EXPECT_TRUE(workers[0].failures().empty());
}

TEST_F(ResumeTest, UnderShrinkALivingMembersRankIsNotGivenToAFreshWorkerWhileTheOthersResume) {
  std::vector<CoreWorker> workers = Form(3, OnLoss::kShrink);
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  workers[1].Resume(second);
  CoreWorker fresh = Stranger(1, 3, OnLoss::kShrink);
  fresh.Join(second);
  EXPECT_EQ(fresh.TakeFailure().code, absl::StatusCode::kAlreadyExists);
  workers[2].Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers);
  EXPECT_EQ(workers[0].known().members, (std::vector<uint32_t>{0, 1, 2}));
}

// A fresh worker waits with rank 1; then a member of a later epoch tells that rank 1 is a member.
TEST_F(ResumeTest, UnderShrinkAMemberThatResumesAfterAFreshWorkerWaitsWithItsRankIsFenced) {
  std::vector<CoreWorker> workers = Form(3, OnLoss::kShrink);
  Reduce(&workers);
  workers[2].known().epoch = 5;
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  CoreWorker fresh = Stranger(1, 3, OnLoss::kShrink);
  fresh.Join(second);
  workers[2].Resume(second);
  workers[1].Resume(second);
  EXPECT_EQ(workers[1].TakeFailure().code, absl::StatusCode::kFailedPrecondition);
  for (const int rank : {0, 2}) {
    workers[rank].Take();
    EXPECT_TRUE(workers[rank].joined());
    workers[rank].Contribute(/*boundary=*/true);
  }
  workers[0].Take();
  EXPECT_EQ(workers[0].changes().back().admitted, std::vector<uint32_t>{1});
}

TEST_F(ResumeTest, UnderShrinkASupersededProcessIsFencedByTheOneThatTookItsPlaceWhoeverIsFirst) {
  for (const bool superseded_first : {true, false}) {
    CoreWorld first(WithGrace(1));
    std::vector<CoreWorker> workers = FormUnheard(&first, 3, /*unheard=*/3, OnLoss::kShrink);
    Reduce(&workers);
    CoreWorker superseded = workers[1];
    workers[1].Disconnect();
    first.Pass(kGrace);
    workers[1] = Stranger(1, 3, OnLoss::kShrink);
    workers[1].Join(&first);
    for (const int rank : {0, 2}) workers[rank].Contribute(/*boundary=*/true);
    for (const int rank : {0, 2}) workers[rank].Take();
    workers[0].HandOver("state", true);
    workers[1].Take();
    Reduce(&workers);
    CoreWorld* second = Restart();
    if (superseded_first) superseded.Resume(second);
    workers[1].Resume(second);
    if (!superseded_first) superseded.Resume(second);
    EXPECT_EQ(superseded.TakeFailure().code, absl::StatusCode::kFailedPrecondition);
    workers[0].Resume(second);
    workers[2].Resume(second);
    for (CoreWorker& worker : workers) worker.Take();
    Reduce(&workers);
    EXPECT_EQ(workers[0].known().members, (std::vector<uint32_t>{0, 1, 2}));
  }
}

TEST_F(ResumeTest, ARunThatEndedHereIsOverForGood) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kShrink);
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  second->Pass(kResume);
  workers[0].Take();
  EXPECT_TRUE(workers[0].joined());
  workers[0].Leave();
  EXPECT_EQ(second->core().snapshot().groups, 0u);
  // It was not here when the others went on and ended.
  workers[1].Resume(second);
  EXPECT_EQ(workers[1].TakeFailure().code, absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(second->core().snapshot().groups, 0u);
}

TEST_F(ResumeTest, AnotherRunThanTheOneThatResumesIsFenced) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  CoreWorker old = workers[1];
  old.known().run_id ^= 2;
  old.Resume(second);
  const Failure failure = old.TakeFailure();
  EXPECT_EQ(failure.code, absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(failure.text, HasSubstr("fenced"));
  workers[1].Resume(second);
  workers[1].Take();
  EXPECT_TRUE(workers[1].joined());
}

TEST_F(ResumeTest, ARankThatWasLostBeforeTheRestartIsFenced) {
  std::vector<CoreWorker> workers = Form(3, OnLoss::kShrink);
  Reduce(&workers);
  workers[1].Disconnect();
  first_.Pass(kGrace);
  workers[0].Take();
  workers[2].Take();
  ASSERT_EQ(workers[0].known().members, (std::vector<uint32_t>{0, 2}));
  for (const bool lost_comes_first : {false, true}) {
    SCOPED_TRACE(lost_comes_first);
    CoreWorld* next = Restart();
    CoreWorker lost = workers[1];
    if (lost_comes_first) lost.Resume(next);
    workers[0].Resume(next);
    if (!lost_comes_first) lost.Resume(next);
    workers[2].Resume(next);
    const Failure failure = lost.TakeFailure();
    EXPECT_EQ(failure.code, absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(failure.text, HasSubstr("fenced"));
    EXPECT_TRUE(next->closed(lost.stream()));
    workers[0].Take();
    workers[2].Take();
    EXPECT_TRUE(workers[0].joined());
    EXPECT_EQ(workers[0].known().epoch, 2u);
  }
}

TEST_F(ResumeTest, EpochsGrowAcrossRestarts) {
  std::vector<CoreWorker> workers = Form(2);
  for (CoreWorker& worker : workers) worker.known().epoch = 40;
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_EQ(workers[0].known().epoch, 40u);
  EXPECT_EQ(second->TakeJoined(second->Join(MakeJoin(0, 1, "b"))).epoch, 41u);
}

TEST_F(ResumeTest, AnEpochThatNoCoordinatorCanHaveIssuedIsRefused) {
  CoreWorker worker(MakeJoin(0, 1));
  for (const auto& [epoch, answered] :
       {std::pair<uint64_t, uint64_t>{~uint64_t{0}, 0}, {0, 0}, {1, ~uint64_t{0}}}) {
    worker.known().run_id = 77;
    worker.known().members = {0};
    worker.known().epoch = epoch;
    worker.known().answered = answered;
    worker.Resume(&first_);
    EXPECT_EQ(worker.TakeFailure().code, absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(first_.core().snapshot().groups, 0u);
  first_.Form(1);
}

TEST_F(ResumeTest, MembersThatKnowDifferentEpochsResumeTheLatest) {
  std::vector<CoreWorker> workers = Form(3, OnLoss::kShrink);
  Reduce(&workers);
  workers[0].Contribute();
  workers[2].Contribute();
  workers[1].Disconnect();
  first_.Pass(kGrace);
  workers[2].Take();  // the result without rank 1, and the new epoch; rank 0 got neither
  ASSERT_EQ(workers[2].known().epoch, 2u);
  ASSERT_EQ(workers[0].known().epoch, 1u);
  for (const bool latest_first : {true, false}) {
    SCOPED_TRACE(latest_first);
    CoreWorld* next = Restart();
    std::vector<CoreWorker> again = workers;
    again[latest_first ? 2 : 0].Resume(next);
    again[latest_first ? 0 : 2].Resume(next);
    again[0].Take();
    again[2].Take();
    EXPECT_TRUE(again[0].joined());
    EXPECT_EQ(again[0].known().epoch, 2u);
    EXPECT_EQ(again[0].known().members, (std::vector<uint32_t>{0, 2}));
    EXPECT_EQ(again[0].answers(), again[2].answers());
  }
}

TEST_F(ResumeTest, ACoordinatorThatIsRestartedTwiceIsResumedByMembersOfBothLives) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers, 2);
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  CoreWorld* third = Restart();
  workers[1].Resume(third);
  workers[0].Resume(third);
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers, 2);
  CoreWorld* fourth = Restart();
  for (CoreWorker& worker : workers) worker.Resume(fourth);
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers);
  EXPECT_EQ(workers[0].answers(), workers[1].answers());
  EXPECT_EQ(workers[0].answers().size(), 5u);
}

TEST_F(ResumeTest, ADrainedCoordinatorsRunGoesOnInItsNextLife) {
  std::vector<CoreWorker> workers = Form(2);
  Reduce(&workers);
  workers[0].Contribute();
  first_.Drain(absl::Seconds(10));
  workers[0].Contribute();  // not answered any more
  first_.Pass(absl::Seconds(10));
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_EQ(workers[0].failures().at(0).code, absl::StatusCode::kUnavailable);
  EXPECT_TRUE(first_.core().drained());
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  workers[1].Contribute();
  workers[1].Contribute();
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_EQ(workers[0].answers(), workers[1].answers());
  EXPECT_EQ(workers[0].answers().size(), 3u);
}

TEST_F(ResumeTest, AMemberWhoseStreamBreaksDuringADrainIsLeftToTheNextLife) {
  std::vector<CoreWorker> workers = Form(2);
  workers[0].Contribute();
  first_.Drain(absl::Seconds(10));
  workers[1].Disconnect();
  first_.Pass(absl::Seconds(1));
  workers[0].Take();
  EXPECT_TRUE(workers[0].failures().empty()) << workers[0].failures()[0].text;
  first_.Pass(absl::Seconds(9));
  workers[0].Take();
  EXPECT_EQ(workers[0].failures().at(0).code, absl::StatusCode::kUnavailable);
  EXPECT_TRUE(first_.core().drained());
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  workers[1].Contribute();
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_EQ(workers[0].answers(), workers[1].answers());
}

// Policy finish.

class ResumeFinishTest : public ResumeTest {};

TEST_F(ResumeFinishTest, AFinishThatGotLostWithItsStreamIsDoneWhenTheMemberIsBack) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  Reduce(&workers);
  workers[1].Disconnect();
  workers[1].known().finished = true;  // said on the broken stream
  workers[1].Resume(&first_);
  workers[1].Take();
  EXPECT_TRUE(workers[1].joined());
  EXPECT_TRUE(workers[1].known().finished) << "it is no member until all have finished";
  workers[0].Contribute();
  workers[0].Take();
  EXPECT_EQ(workers[0].answers().size(), 2u);
  workers[0].Finish();
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers);
}

TEST_F(ResumeFinishTest, AMemberThatWasAwayWhenAllHadFinishedTakesPartAgain) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  Reduce(&workers);
  workers[1].Finish();
  workers[1].Take();
  workers[1].Disconnect();
  workers[0].Contribute();
  workers[0].Finish();
  workers[0].Take();
  workers[1].Resume(&first_);
  workers[1].Take();
  EXPECT_FALSE(workers[1].known().finished);
  EXPECT_EQ(workers[1].next(), 3u);
  Reduce(&workers);
}

TEST_F(ResumeFinishTest, AFinishedMemberStaysFinishedAcrossARestart) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  Reduce(&workers);
  workers[1].Finish();
  for (CoreWorker& worker : workers) worker.Take();
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_TRUE(workers[1].known().finished);
  workers[0].Contribute();
  workers[0].Take();
  EXPECT_EQ(workers[0].answers().count(2), 1u);
  workers[0].Finish();
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers);
}

TEST_F(ResumeFinishTest, AFinishThatNoOtherMemberLearntOfIsDoneAfterARestart) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  Reduce(&workers);
  workers[1].Finish();
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_TRUE(workers[0].joined());
  EXPECT_TRUE(workers[1].known().finished);
  EXPECT_EQ(workers[0].known().members, std::vector<uint32_t>{0});
  EXPECT_GT(workers[0].known().epoch, 1u);
  workers[0].Contribute();
  workers[0].Take();
  EXPECT_EQ(workers[0].answers().count(2), 1u);
  workers[0].Finish();
  for (CoreWorker& worker : workers) worker.Take();
  Reduce(&workers);
}

TEST_F(ResumeFinishTest, FinishesThatAreKnownToNobodyRegroupAllAfterARestart) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  Reduce(&workers);
  for (CoreWorker& worker : workers) worker.Finish();
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  for (CoreWorker& worker : workers) EXPECT_FALSE(worker.known().finished);
  EXPECT_EQ(workers[0].next(), 2u);
  Reduce(&workers);
}

// Its second Resume says the same as its first: that it has finished, in an epoch of before.
TEST_F(ResumeFinishTest, OneThatMissedTheRegroupingAndTheJoinedAfterARestartHasNotFinishedAgain) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  Reduce(&workers);
  workers[1].Finish();
  workers[1].Take();
  workers[0].Take();
  workers[0].Contribute();
  workers[0].Take();
  workers[0].Finish();
  workers[0].Take();  // knows that all have finished; rank 1 does not
  CoreWorld* next = Restart();
  for (CoreWorker& worker : workers) worker.Resume(next);
  workers[1].Disconnect();  // and with the stream goes what it was told
  workers[1].Resume(next);
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_FALSE(workers[1].known().finished);
  EXPECT_EQ(workers[1].known().members, (std::vector<uint32_t>{0, 1}));
  Reduce(&workers);
}

TEST_F(ResumeFinishTest, AFinishedMemberThatMissedTheRegroupingTakesPartAfterARestart) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  Reduce(&workers);
  workers[1].Finish();
  workers[1].Take();
  workers[0].Take();
  workers[0].Contribute();
  workers[0].Take();
  workers[0].Finish();
  workers[0].Take();  // knows that all have finished; rank 1 does not
  for (const bool knows_first : {true, false}) {
    SCOPED_TRACE(knows_first);
    std::vector<CoreWorker> again = workers;
    CoreWorld* next = Restart();
    again[knows_first ? 0 : 1].Resume(next);
    again[knows_first ? 1 : 0].Resume(next);
    for (CoreWorker& worker : again) worker.Take();
    EXPECT_FALSE(again[1].known().finished);
    EXPECT_EQ(again[1].next(), 3u);
    Reduce(&again);
  }
}

TEST_F(ResumeFinishTest, AnAnswerThatOnlyAFinishedMemberGotIsGivenToTheOthers) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kFinish);
  for (CoreWorker& worker : workers) worker.Contribute();
  workers[1].Take();
  workers[1].Finish();
  CoreWorld* second = Restart();
  for (CoreWorker& worker : workers) worker.Resume(second);
  for (CoreWorker& worker : workers) worker.Take();
  EXPECT_EQ(workers[0].answers(), workers[1].answers());
}

TEST_F(ResumeFinishTest,
       UnderShrinkOnesThatHaveAllFinishedGoOnWithoutTheMemberThatDoesNotComeBack) {
  std::vector<CoreWorker> workers = Form(2, OnLoss::kShrink);
  Reduce(&workers, 2);
  workers[0].Finish();
  for (CoreWorker& worker : workers) worker.Take();
  CoreWorld* second = Restart();
  workers[0].Resume(second);
  second->Pass(kResume);
  workers[0].Take();
  EXPECT_TRUE(workers[0].joined());
  EXPECT_FALSE(workers[0].known().finished);
  EXPECT_EQ(workers[0].next(), 3u);
  workers[0].Contribute();
  workers[0].Take();
  EXPECT_EQ(workers[0].answers().count(3), 1u);
}

}  // namespace
}  // namespace syncnorm::server
