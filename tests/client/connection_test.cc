// The shell around the session: threads, writes and time while the stream breaks and comes back.
#include "client/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/interrupt.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tests/client/peer_transport.h"

namespace syncnorm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Kind = wire::WorkerMessage::Kind;

constexpr absl::Duration kTimeout = absl::Seconds(10);
constexpr uint32_t kWorld = 32;

std::string Text(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

ReduceKey Layer(const std::string& name) { return {name, Direction::kForward, 1, DType::kF32}; }

Moments Value(double value) {
  Moments moments = Moments::Sums(1, 1, Precision::kF64);
  moments.count = 1;
  moments.values = {value};
  return moments;
}

wire::Joined MakeJoined(uint64_t epoch = 1) {
  wire::Joined joined;
  joined.epoch = epoch;
  joined.world_size = kWorld;
  joined.hosts.assign(kWorld, "h");
  joined.limits = {1000, 100, 64, 1 << 20};
  joined.round_timeout = kTimeout;
  joined.run_id = 77;
  joined.coordinator_id = 5;
  joined.first_round = 1;
  joined.members = {0, 1};
  joined.epoch_first_round = 1;
  return joined;
}

// A coordinator that gives each member back what it sent.
class Echo {
 public:
  explicit Echo(PeerTransport* peer) : peer_(peer) {
    peer->on_message = [this](const wire::WorkerMessage& message) { Take(message); };
  }

  // What to do with contributions; answers them unless told otherwise.
  std::function<void(const wire::Contribution&)> on_contribution = [this](const auto& each) {
    Answer(each);
  };
  std::function<void(const wire::Join&)> on_join = [this](const wire::Join& join) {
    EXPECT_TRUE(join.resume.has_value());
    peer_->Send(wire::Codec().Encode(MakeJoined()));
  };
  std::function<void()> on_leave = [this] { peer_->Break(absl::OkStatus()); };

  void Answer(const wire::Contribution& contribution) {
    wire::Result result;
    result.key = contribution.key;
    result.moments = contribution.moments;
    peer_->Send(wire::Codec().Encode(result));
  }

  std::atomic<int> joins{0}, leaves{0}, finishes{0};
  std::string handed_over;

 private:
  void Take(const wire::WorkerMessage& message) {
    switch (message.kind) {
      case Kind::kJoin:
        ++joins;
        return on_join(message.join);
      case Kind::kContribution:
        return on_contribution(message.contribution);
      case Kind::kLeave:
        ++leaves;
        return on_leave();
      case Kind::kFinish:
        ++finishes;
        return;
      case Kind::kHandover:
        handed_over += message.handover.chunk;
        return;
      case Kind::kRestored:
        return;
    }
  }

  PeerTransport* const peer_;
};

class ConnectionTest : public ::testing::Test {
 protected:
  // In virtual time there is no background thread.
  void Make(bool real_time, OnLoss on_loss = OnLoss::kFail, uint32_t rank = 1) {
    auto transport = std::make_unique<PeerTransport>(real_time ? nullptr : &clock_);
    peer_ = transport.get();
    echo_ = std::make_unique<Echo>(peer_);
    wire::Join join;
    join.group = "world";
    join.rank = rank;
    join.world_size = kWorld;
    join.host = "h1";
    join.incarnation = std::string(wire::kIncarnationBytes, 'i');
    join.round_timeout = kTimeout;
    join.join_timeout = absl::Seconds(5);
    join.on_loss = on_loss;
    auto session = std::make_unique<Session>("10.0.0.1:5000", join);
    wire::CoordinatorMessage joined;
    joined.kind = wire::CoordinatorMessage::Kind::kJoined;
    joined.joined = MakeJoined();
    std::vector<Session::Completion> none;
    session->Receive(&joined, "", absl::UnixEpoch(), &none);
    peer_->OpenJoined();
    Clock* const clock = real_time ? &MonotonicClock() : &clock_;
    real_time_ = real_time;
    connection_ = std::make_shared<Connection>(std::move(session), std::move(transport), clock);
    if (real_time) connection_->Start();
  }
  // At the end of a test whose locals the other end refers to.
  void ShutDown() {
    connection_->Shutdown();
    real_time_ = false;
  }
  ~ConnectionTest() override {
    if (real_time_) ShutDown();
  }

  VirtualClock clock_;
  bool real_time_ = false;
  PeerTransport* peer_ = nullptr;
  std::unique_ptr<Echo> echo_;
  std::shared_ptr<Connection> connection_;
};

TEST_F(ConnectionTest, ComesBackAtOnceThenAfterFiftyMillisecondsDoublingSpreadByRank) {
  for (uint32_t rank : {0, 9, 15, 16}) {
    SCOPED_TRACE(rank);
    Make(/*real_time=*/false, OnLoss::kFail, rank);
    bool broken = false;
    echo_->on_contribution = [&](const wire::Contribution& contribution) {
      if (std::exchange(broken, true)) return echo_->Answer(contribution);
      peer_->Break();
    };
    int refused = 0;
    peer_->on_open = [&] { return ++refused > 7; };
    EXPECT_EQ(*connection_->ReduceNow(Layer("a"), Value(3)), Value(3));
    const std::vector<absl::Time> opened = peer_->opened();
    ASSERT_THAT(opened, SizeIs(9));
    EXPECT_EQ(opened[1], opened[0]) << "at once";
    const double spread = 0.75 + 0.5 * (rank % 16) / 16;
    for (int i = 2; i < 9; ++i) {
      const absl::Duration expected[] = {absl::Milliseconds(50), absl::Milliseconds(100),
                                         absl::Milliseconds(200), absl::Milliseconds(250)};
      EXPECT_EQ(opened[i] - opened[i - 1], expected[std::min(i - 2, 3)] * spread) << i;
    }
  }
}

TEST_F(ConnectionTest, AfterItWasBackItComesBackAtOnceAgain) {
  Make(/*real_time=*/false);
  int breaks = 0, opens = 0;
  echo_->on_contribution = [&](const wire::Contribution& contribution) {
    if (contribution.key.round % 2 == 1 && breaks < static_cast<int>(contribution.key.round)) {
      breaks = static_cast<int>(contribution.key.round);
      return peer_->Break();
    }
    echo_->Answer(contribution);
  };
  peer_->on_open = [&] { return ++opens % 3 == 0; };
  for (int round = 0; round < 6; ++round) {
    EXPECT_EQ(*connection_->ReduceNow(Layer("a"), Value(round)), Value(round));
  }
  const std::vector<absl::Time> opened = peer_->opened();
  ASSERT_THAT(opened, SizeIs(1 + 3 * 3));
  for (int i = 1; i < 10; i += 3) EXPECT_LT(opened[i] - opened[i - 1], absl::Milliseconds(1));
}

TEST_F(ConnectionTest, AStreamThatBreaksAsSoonAsItIsJoinedIsOneMoreAttempt) {
  Make(/*real_time=*/false);
  echo_->on_contribution = [&](const auto&) { peer_->Break(); };
  EXPECT_TRUE(absl::IsUnavailable(connection_->ReduceNow(Layer("a"), Value(1)).status()));
  EXPECT_LT(peer_->opened().size(), kTimeout / absl::Milliseconds(150)) << "no faster than that";
}

TEST_F(ConnectionTest, ARoundThatWaitsWhileAwayEndsAtItsDeadlineByName) {
  Make(/*real_time=*/false);
  echo_->on_contribution = [&](const auto&) { peer_->Break(); };
  peer_->on_open = [] { return false; };
  const absl::Time began = clock_.now;
  const absl::Status status = connection_->ReduceNow(Layer("a"), Value(1)).status();
  EXPECT_EQ(clock_.now - began, kTimeout + Session::kAnswerSlack);
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(Text(status),
              AllOf(HasSubstr("rank 1 of group world"), HasSubstr("10.0.0.1:5000"),
                    HasSubstr("last error: Connection refused"), HasSubstr("attempts")));
  EXPECT_EQ(connection_->ReduceNow(Layer("b"), Value(1)).status(), status);
}

TEST_F(ConnectionTest, AnAttemptThatHangsIsEndedByTheDeadlineToo) {
  Make(/*real_time=*/false);
  echo_->on_contribution = [&](const auto&) { peer_->Break(); };
  echo_->on_join = [](const auto&) {};
  const absl::Time began = clock_.now;
  EXPECT_TRUE(absl::IsUnavailable(connection_->ReduceNow(Layer("a"), Value(1)).status()));
  EXPECT_EQ(clock_.now - began, kTimeout + Session::kAnswerSlack);
}

// A future's contribution is written by the thread that submits it, while another one leads.
TEST_F(ConnectionTest, TheNextStreamIsNotOpenedWhileAThreadStillWritesOnTheLast) {
  Make(/*real_time=*/true);
  absl::Notification inside, go_on;
  std::vector<uint64_t> rounds;
  echo_->on_contribution = [&](const wire::Contribution& contribution) {
    rounds.push_back(contribution.key.round);
    if (go_on.HasBeenNotified()) echo_->Answer(contribution);  // until then somebody leads
  };
  MomentsFuture first = connection_->Reduce(Layer("a"), Value(1));
  peer_->AwaitWaiting();  // otherwise the leader would write it
  peer_->before_write = [&] {
    if (inside.HasBeenNotified()) return;
    inside.Notify();
    go_on.WaitForNotification();
  };
  MomentsFuture second;
  std::thread writer([&] { second = connection_->Reduce(Layer("b"), Value(2)); });
  inside.WaitForNotification();
  peer_->Break();
  peer_->AwaitLooks(5);  // the leader knows, and would like to open the next one
  EXPECT_THAT(peer_->opened(), SizeIs(1));
  go_on.Notify();
  writer.join();
  EXPECT_EQ(*first.Wait(), Value(1));
  EXPECT_EQ(*second.Wait(), Value(2));
  EXPECT_THAT(rounds, ElementsAre(1, 1, 2)) << "what went to the stream that had ended is lost";
  ShutDown();
}

TEST_F(ConnectionTest, TheNextStreamIsNotOpenedWhileAThreadIsStillInReadOfTheLast) {
  Make(/*real_time=*/true);
  absl::Notification inside, go_on;
  bool broken = false;
  const std::thread::id submitter = std::this_thread::get_id();
  std::thread breaks([&] {
    inside.WaitForNotification();
    peer_->Break();
    peer_->AwaitLooks(5);
    EXPECT_THAT(peer_->opened(), SizeIs(1));
    go_on.Notify();
  });
  echo_->on_contribution = [&](const wire::Contribution& contribution) {
    if (broken) echo_->Answer(contribution);
  };
  peer_->on_read = [&] {
    if (std::this_thread::get_id() != submitter || std::exchange(broken, true)) return;
    inside.Notify();
    go_on.WaitForNotification();
  };
  MomentsFuture future;
  // The idle look may have posted the Read before: then the next round does.
  for (int round = 1; !broken; ++round) {
    future = connection_->Reduce(Layer("a"), Value(round));
    if (!broken) {
      wire::Contribution same;
      same.key = {1, static_cast<uint64_t>(round), "a", Direction::kForward, 1};
      same.moments = Value(round);
      echo_->Answer(same);
      EXPECT_EQ(*future.Wait(), Value(round));
    }
  }
  breaks.join();
  EXPECT_TRUE(future.Wait().ok());
  ShutDown();
}

TEST_F(ConnectionTest, AllThreadsThatWaitWhileAwayGetTheirOwnResults) {
  Make(/*real_time=*/true);
  constexpr int kThreads = 6;
  int came = 0;
  bool refused = false;
  echo_->on_contribution = [&](const wire::Contribution& contribution) {
    if (++came > kThreads) return echo_->Answer(contribution);
    if (came == kThreads) peer_->Break();
  };
  peer_->on_open = [&] { return std::exchange(refused, true); };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      if (i % 2 == 0) {
        EXPECT_EQ(*connection_->ReduceNow(Layer(absl::StrCat("l", i)), Value(i)), Value(i));
      } else {
        EXPECT_EQ(*connection_->Reduce(Layer(absl::StrCat("l", i)), Value(i)).Wait(), Value(i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(came, 2 * kThreads);
  EXPECT_THAT(peer_->opened(), SizeIs(3));
  ShutDown();
}

TEST_F(ConnectionTest, RoundsThatAreSubmittedWhileAwayAreAnsweredToo) {
  Make(/*real_time=*/true);
  absl::Notification away, come_back;
  echo_->on_contribution = [&](const wire::Contribution& contribution) {
    if (!away.HasBeenNotified()) return peer_->Break();
    echo_->Answer(contribution);
  };
  peer_->on_open = [&] {
    if (!away.HasBeenNotified()) away.Notify();
    return come_back.HasBeenNotified();
  };
  std::vector<MomentsFuture> futures;
  futures.push_back(connection_->Reduce(Layer("a"), Value(0)));
  away.WaitForNotification();
  for (int i = 1; i < 20; ++i) futures.push_back(connection_->Reduce(Layer("a"), Value(i)));
  EXPECT_FALSE(futures[0].ready());
  come_back.Notify();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(*futures[i].Wait(), Value(i));
  ShutDown();
}

TEST_F(ConnectionTest, AMemberThatComputesNoticesItsBrokenStreamByItself) {
  Make(/*real_time=*/true);
  absl::Notification back;
  echo_->on_join = [&](const wire::Join&) {
    peer_->Send(wire::Codec().Encode(MakeJoined()));
    back.Notify();
  };
  EXPECT_EQ(*connection_->ReduceNow(Layer("a"), Value(1)), Value(1));
  const absl::Time broke = MonotonicClock().Now();
  peer_->Break();
  EXPECT_TRUE(back.WaitForNotificationWithTimeout(absl::Seconds(20)));
  // 20 ms, and what a loaded machine adds.
  EXPECT_LT(MonotonicClock().Now() - broke, absl::Seconds(1));
  EXPECT_EQ(*connection_->ReduceNow(Layer("b"), Value(2)), Value(2));
  ShutDown();
}

TEST_F(ConnectionTest, LeaveWhileAwayTriesForASecondAndThenIsOver) {
  Make(/*real_time=*/false);
  EXPECT_TRUE(connection_->ReduceNow(Layer("a"), Value(1)).ok());
  for (const bool hangs : {false, true}) {
    SCOPED_TRACE(hangs);
    Make(/*real_time=*/false);
    echo_->on_join = [](const auto&) {};  // an attempt that hangs
    peer_->on_open = [hangs] { return hangs; };
    echo_->on_leave = [this] { peer_->Break(); };
    const absl::Time began = clock_.now;
    const absl::Status left = connection_->Leave();
    EXPECT_EQ(clock_.now - began, Connection::kLeaveTimeout);
    EXPECT_TRUE(absl::IsUnavailable(left)) << left;
    EXPECT_THAT(Text(left), AllOf(HasSubstr("10.0.0.1:5000"), HasSubstr("attempts")));
    EXPECT_EQ(connection_->Leave(), left) << "safe to call twice";
    EXPECT_TRUE(
        absl::IsFailedPrecondition(connection_->Reduce(Layer("b"), Value(1)).Wait().status()));
  }
}

TEST_F(ConnectionTest, ShutdownWhileAwayIsBounded) {
  Make(/*real_time=*/true);
  absl::Notification tried;
  peer_->on_open = [&] {
    if (!tried.HasBeenNotified()) tried.Notify();
    return false;
  };
  peer_->Break();
  tried.WaitForNotification();
  const absl::Time began = MonotonicClock().Now();
  ShutDown();
  EXPECT_LT(MonotonicClock().Now() - began, Connection::kLeaveTimeout + absl::Milliseconds(500));
}

TEST_F(ConnectionTest, ALeaveWhoseStreamBrokeIsSaidAgain) {
  Make(/*real_time=*/false);
  echo_->on_leave = [this] {
    peer_->Break(echo_->leaves == 1 ? absl::UnavailableError("reset") : absl::OkStatus());
  };
  EXPECT_TRUE(connection_->Leave().ok());
  EXPECT_EQ(echo_->leaves, 2);
  EXPECT_EQ(echo_->joins, 1);
}

TEST_F(ConnectionTest, ACoordinatorThatHadHeardTheLeaveKnowsThisMemberNoMore) {
  Make(/*real_time=*/false);
  echo_->on_leave = [this] { peer_->Break(); };
  echo_->on_join = [this](const auto&) {
    Failure fenced;
    fenced.code = absl::StatusCode::kFailedPrecondition;
    fenced.text = "fenced: its rank is not held by it any more";
    peer_->Send(wire::Codec().Encode(fenced));
    peer_->Break(absl::OkStatus());
  };
  const absl::Status left = connection_->Leave();
  EXPECT_TRUE(left.ok()) << left;
}

// In virtual time the other thread is one that calls from inside the transport.
TEST_F(ConnectionTest, NothingIsTakenFromOtherThreadsWhileAMemberThatIsAwayLeaves) {
  Make(/*real_time=*/false);
  MomentsFuture late;
  peer_->on_open = [&] {
    late = connection_->Reduce(Layer("late"), Value(1));
    return true;
  };
  echo_->on_leave = [this] {
    peer_->Break(echo_->leaves == 1 ? absl::UnavailableError("reset") : absl::OkStatus());
  };
  EXPECT_TRUE(connection_->Leave().ok());
  const absl::Status refused = late.Wait().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_THAT(Text(refused), HasSubstr("layer late"));
}

TEST_F(ConnectionTest, AStateGoesOutWholeHoweverSlowTheNetwork) {
  Make(/*real_time=*/false, OnLoss::kShrink);
  peer_->write_time = absl::Milliseconds(300);
  std::string state(5 << 20, 's');
  for (size_t i = 0; i < state.size(); i += 997) state[i] = static_cast<char>(i);
  const absl::Time began = clock_.now;
  connection_->HandOver(state);
  EXPECT_TRUE(echo_->handed_over == state);
  EXPECT_EQ(clock_.now - began, 10 * peer_->write_time) << "10 pieces of 512 KiB";
  EXPECT_EQ(*connection_->ReduceNow(Layer("a"), Value(1)), Value(1));
}

TEST_F(ConnectionTest, AStateThatDoesNotGoOutIsWaitedForNoLongerThanARound) {
  Make(/*real_time=*/false, OnLoss::kShrink);
  peer_->write_time = absl::Hours(1);
  const absl::Time began = clock_.now;
  connection_->HandOver(std::string(1 << 20, 's'));
  EXPECT_EQ(clock_.now - began, kTimeout);
}

TEST_F(ConnectionTest, AStateWhoseStreamBreaksIsNotWaitedFor) {
  Make(/*real_time=*/false, OnLoss::kShrink);
  peer_->write_time = absl::Milliseconds(1);
  int pieces = 0;
  const auto take = peer_->on_message;
  peer_->on_message = [&](const wire::WorkerMessage& message) {
    if (message.kind == Kind::kHandover && ++pieces == 2) peer_->Break();
    take(message);
  };
  connection_->HandOver(std::string(5 << 20, 's'));
  EXPECT_EQ(pieces, 2);
  EXPECT_EQ(*connection_->ReduceNow(Layer("a"), Value(1)), Value(1));
  EXPECT_EQ(pieces, 2) << "what was not sent is not sent on another stream";
}

TEST_F(ConnectionTest, AFinishThatTimedOutAndWasAnsweredMeanwhileIsNotSaidTwice) {
  Make(/*real_time=*/true, OnLoss::kFinish);
  EXPECT_TRUE(absl::IsDeadlineExceeded(connection_->Finish(absl::Milliseconds(1))));
  echo_->on_join = [this](const wire::Join& join) {
    EXPECT_TRUE(join.resume->finished);
    peer_->Send(wire::Codec().Encode(MakeJoined(/*epoch=*/5)));
  };
  peer_->Break();  // it comes back and hears that all have finished
  while (connection_->view().epoch != 5) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(connection_->Finish(absl::Seconds(10)).ok());
  EXPECT_EQ(echo_->finishes, 1);
  // From now on it is a new one.
  EXPECT_TRUE(absl::IsDeadlineExceeded(connection_->Finish(absl::Milliseconds(1))));
  EXPECT_EQ(echo_->finishes, 2);
  ShutDown();
}

TEST_F(ConnectionTest, AThreadThatFollowsAnotherKeepsItsOwnDeadline) {
  Make(/*real_time=*/true, OnLoss::kFinish);
  std::thread patient(
      [&] { EXPECT_TRUE(absl::IsDeadlineExceeded(connection_->Finish(absl::Seconds(2)))); });
  while (echo_->finishes == 0) absl::SleepFor(absl::Milliseconds(1));
  peer_->AwaitWaiting();
  const absl::Time began = MonotonicClock().Now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(connection_->Finish(absl::Milliseconds(50))));
  EXPECT_LT(MonotonicClock().Now() - began, absl::Milliseconds(1000));
  patient.join();
  ShutDown();
}

TEST_F(ConnectionTest, AnInterruptEndsAWaitAtItsNextLookAndTheRoundGoesOn) {
  Make(/*real_time=*/false);
  std::vector<wire::Contribution> held;
  echo_->on_contribution = [&](const wire::Contribution& contribution) {
    held.push_back(contribution);
    if (held.size() < 2) return;
    for (const wire::Contribution& each : held) echo_->Answer(each);
  };
  const absl::Time began = clock_.now;
  {
    int asked = 0;
    const InterruptScope scope([&asked] { return ++asked == 3; });
    const absl::Status status = connection_->ReduceNow(Layer("a"), Value(1)).status();
    EXPECT_TRUE(absl::IsCancelled(status)) << status;
    EXPECT_THAT(Text(status), AllOf(HasSubstr("layer a"), HasSubstr("interrupted")));
    EXPECT_EQ(clock_.now - began, 3 * InterruptScope::kLook);
  }
  EXPECT_EQ(*connection_->ReduceNow(Layer("b"), Value(2)), Value(2));
  EXPECT_THAT(held, SizeIs(2));
}

TEST_F(ConnectionTest, AnInterruptEndsAWaitBesideAnotherThreadsToo) {
  Make(/*real_time=*/true);
  wire::Contribution first;
  std::atomic<int> came{0};
  echo_->on_contribution = [&](const wire::Contribution& contribution) {
    if (came++ == 0) first = contribution;
  };
  std::thread leader([&] { EXPECT_EQ(*connection_->ReduceNow(Layer("a"), Value(1)), Value(1)); });
  peer_->AwaitWaiting();
  {
    const InterruptScope scope([] { return true; });
    EXPECT_TRUE(absl::IsCancelled(connection_->Reduce(Layer("b"), Value(2)).Wait().status()));
  }
  echo_->Answer(first);
  leader.join();
  ShutDown();
}

TEST_F(ConnectionTest, ALeaveDoesNotWaitForARoundWhoseWaitWasInterrupted) {
  Make(/*real_time=*/false);
  echo_->on_contribution = [](const auto&) {};
  {
    const InterruptScope scope([] { return true; });
    EXPECT_TRUE(absl::IsCancelled(connection_->ReduceNow(Layer("a"), Value(1)).status()));
  }
  const absl::Time began = clock_.now;
  const absl::Status left = connection_->Leave();
  EXPECT_TRUE(absl::IsCancelled(left)) << left;
  EXPECT_THAT(Text(left), AllOf(HasSubstr("rank 1 of group world"), HasSubstr("1 round")));
  EXPECT_EQ(clock_.now, began);
  EXPECT_EQ(echo_->leaves, 0) << "it is lost to the others, and has not left them in order";
}

TEST(InterruptScopeTest, TheInnermostCounts) {
  EXPECT_FALSE(InterruptScope::active());
  EXPECT_FALSE(InterruptScope::Interrupted());
  const InterruptScope outer([] { return true; });
  {
    const InterruptScope inner([] { return false; });
    EXPECT_FALSE(InterruptScope::Interrupted());
  }
  EXPECT_TRUE(InterruptScope::Interrupted());
  std::thread([] { EXPECT_FALSE(InterruptScope::active()); }).join();
}

}  // namespace
}  // namespace syncnorm
