// What a worker is told when something is wrong: at once or within its deadline, with names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/failure.h>
#include <syncnorm/group.h>

#include <cstdlib>
#include <optional>

#include "client/grpc_transport.h"
#include "client/join.h"
#include "proto/clock.h"
#include "tests/client/server_on.h"
#include "tests/client/silent_coordinator.h"
#include "tests/client/workers.h"

namespace syncnorm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Beyond any deadline, by the promise of group.h.
constexpr absl::Duration kPromise = absl::Milliseconds(100);

struct Timed {
  absl::Status status;
  absl::Duration took;
};

template <typename Body>
Timed Time(Body body) {
  const absl::Time began = MonotonicClock().Now();
  const absl::Status status = body();
  return {status, MonotonicClock().Now() - began};
}

Timed Connect(const GroupOptions& options) {
  return Time([&] { return Group::Connect(options).status(); });
}

// Connects `count` workers at once and gives what each was told.
std::vector<Timed> ConnectEach(const std::string& address, int count, int world_size,
                               const std::function<void(int, GroupOptions*)>& change) {
  std::vector<Timed> outcomes(count);
  InThreads(count, [&](int i) {
    GroupOptions options = Options(address, i, world_size);
    change(i, &options);
    outcomes[i] = Connect(options);
  });
  return outcomes;
}

TEST(ConnectFailureTest, AWrongOptionIsNamedBeforeAnythingIsConnected) {
  GroupOptions options = Options("127.0.0.1:1", 4, 4);
  const Timed outcome = Connect(options);
  EXPECT_TRUE(absl::IsInvalidArgument(outcome.status));
  EXPECT_THAT(Text(outcome.status), HasSubstr("rank is 4, expected 0 to 3"));
}

TEST(ConnectFailureTest, ARefusedConnectionEndsInItsLastErrorAtTheDeadline) {
  const std::string address = StartCoordinator()->address();  // gone again
  GroupOptions options = Options(address, 0, 2);
  options.connect_timeout = absl::Seconds(1);
  const Timed outcome = Connect(options);
  EXPECT_TRUE(absl::IsUnavailable(outcome.status)) << outcome.status;
  EXPECT_THAT(Text(outcome.status),
              AllOf(HasSubstr("rank 0 of group world at " + address), HasSubstr("refused")));
  EXPECT_GE(outcome.took, absl::Seconds(1));
  EXPECT_LE(outcome.took, absl::Seconds(1) + kPromise);
}

TEST(ConnectFailureTest, AnAddressThatDoesNotResolveIsNamed) {
  GroupOptions options = Options("no-such-host.invalid:5000", 0, 2);
  options.connect_timeout = absl::Seconds(1);
  const Timed outcome = Connect(options);
  EXPECT_TRUE(absl::IsUnavailable(outcome.status)) << outcome.status;
  EXPECT_THAT(Text(outcome.status), HasSubstr("no-such-host.invalid:5000"));
  EXPECT_LE(outcome.took, absl::Seconds(1) + kPromise);
}

TEST(ConnectFailureTest, APortThatNeverSpeaksEndsAtTheDeadline) {
  const SilentPort port;
  GroupOptions options = Options(port.address(), 0, 2);
  options.connect_timeout = absl::Seconds(1);
  const Timed outcome = Connect(options);
  EXPECT_TRUE(absl::IsUnavailable(outcome.status)) << outcome.status;
  EXPECT_THAT(Text(outcome.status), HasSubstr(port.address()));
  EXPECT_LE(outcome.took, absl::Seconds(1) + kPromise);
}

TEST(ConnectFailureTest, ACoordinatorThatNeverAnswersTheJoinEndsAtTheDeadline) {
  const SilentCoordinator coordinator(SilentCoordinator::Says::kNothing, 0);
  GroupOptions options = Options(coordinator.address(), 0, 2);
  options.connect_timeout = absl::Milliseconds(500);
  const Timed outcome = Connect(options);
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome.status)) << outcome.status;
  EXPECT_THAT(Text(outcome.status), HasSubstr("rank 0 of group world at " + coordinator.address()));
  EXPECT_LE(outcome.took, options.connect_timeout + kPromise);
}

TEST(ConnectFailureTest, RanksThatDoNotJoinAreNamedAtTheDeadline) {
  const auto coordinator = StartCoordinator();
  const auto outcomes = ConnectEach(coordinator->address(), 2, 4, [](int i, GroupOptions* options) {
    options->rank = i == 0 ? 0 : 2;
    options->connect_timeout = absl::Milliseconds(700);
  });
  for (const Timed& outcome : outcomes) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(outcome.status)) << outcome.status;
    EXPECT_THAT(Text(outcome.status), AllOf(HasSubstr("world"), HasSubstr("1"), HasSubstr("3")));
    EXPECT_LE(outcome.took, absl::Milliseconds(700) + kPromise);
    const std::optional<Failure> failure = FailureOf(outcome.status);
    ASSERT_TRUE(failure.has_value());
    EXPECT_EQ(failure->ranks, (std::vector<uint32_t>{1, 3}));
  }
}

TEST(ConnectFailureTest, TwoWorkersWithOneRankAreNamedToBoth) {
  const auto coordinator = StartCoordinator();
  const auto outcomes = ConnectEach(coordinator->address(), 2, 3, [](int i, GroupOptions* options) {
    options->rank = 1;
    options->host = i == 0 ? "host-a" : "host-b";
  });
  for (const Timed& outcome : outcomes) {
    EXPECT_TRUE(absl::IsAlreadyExists(outcome.status)) << outcome.status;
    EXPECT_THAT(Text(outcome.status), HasSubstr("rank 1"));
    EXPECT_LT(outcome.took, absl::Seconds(5));
  }
}

TEST(ConnectFailureTest, WorldSizesThatDifferAreNamedToBoth) {
  const auto coordinator = StartCoordinator();
  const auto outcomes = ConnectEach(coordinator->address(), 2, 2, [](int i, GroupOptions* options) {
    options->world_size = i == 0 ? 3 : 4;
  });
  for (const Timed& outcome : outcomes) {
    EXPECT_TRUE(absl::IsAborted(outcome.status)) << outcome.status;
    EXPECT_THAT(Text(outcome.status), AllOf(HasSubstr("3"), HasSubstr("4")));
    EXPECT_LT(outcome.took, absl::Seconds(5));
  }
}

TEST(ConnectFailureTest, JobsThatDifferAreNamedToBoth) {
  const auto coordinator = StartCoordinator();
  const auto outcomes = ConnectEach(coordinator->address(), 2, 2, [](int i, GroupOptions* options) {
    options->job = i == 0 ? "job-a" : "job-b";
    options->connect_timeout = absl::Seconds(2);
  });
  for (const Timed& outcome : outcomes) {
    EXPECT_TRUE(absl::IsAlreadyExists(outcome.status)) << outcome.status;
    EXPECT_THAT(Text(outcome.status), AllOf(HasSubstr("job-a"), HasSubstr("job-b")));
    EXPECT_LT(outcome.took, absl::Seconds(2));
  }
}

class RoundFailureTest : public ::testing::Test {
 protected:
  void Connect(int world_size, absl::Duration round_timeout = absl::Seconds(20)) {
    coordinator_ = StartCoordinator();
    groups_ = ConnectAll(coordinator_->address(), world_size, [&](GroupOptions* options) {
      options->round_timeout = round_timeout;
      options->host = "host" + std::to_string(options->rank);
    });
  }

  std::unique_ptr<CoordinatorHandle> coordinator_;
  std::vector<std::unique_ptr<Group>> groups_;
};

TEST_F(RoundFailureTest, ChannelsThatDifferAreNamedToBoth) {
  Connect(2);
  InThreads(2, [&](int rank) {
    const absl::Status status =
        groups_[rank]->ReduceNow(Layer("bn1"), MomentsOf(rank, 0, rank == 0 ? 64 : 128)).status();
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_THAT(Text(status), AllOf(HasSubstr("bn1"), HasSubstr("64"), HasSubstr("128")));
  });
}

TEST_F(RoundFailureTest, LayersThatDifferAreNamedToBoth) {
  Connect(2);
  InThreads(2, [&](int rank) {
    const absl::Status status =
        groups_[rank]->ReduceNow(Layer(rank == 0 ? "bn7" : "bn8"), MomentsOf(rank, 0)).status();
    EXPECT_TRUE(absl::IsAborted(status)) << status;
    EXPECT_THAT(Text(status), AllOf(HasSubstr("bn7"), HasSubstr("bn8")));
  });
}

TEST_F(RoundFailureTest, BadMomentsFailAtTheCallerOnly) {
  Connect(2);
  Moments bad = MomentsOf(0, 0);
  bad.values.pop_back();
  const absl::Status status = groups_[0]->ReduceNow(Layer("bn1"), bad).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("layer bn1"), HasSubstr("rank 0 of group world"),
                                  HasSubstr(coordinator_->address())));
  MomentsFuture future = groups_[0]->Reduce(Layer("bn1"), bad);
  EXPECT_TRUE(future.ready());
  EXPECT_EQ(future.Wait().status(), status);
  InThreads(2, [&](int rank) {
    EXPECT_EQ(*groups_[rank]->ReduceNow(Layer("bn1"), MomentsOf(rank, 0)), Expected(2, 0));
  });
}

TEST_F(RoundFailureTest, AMemberThatDoesNotContributeIsNamedAtTheDeadline) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(500);
  Connect(3, kTimeout);
  InThreads(2, [&](int rank) {
    const Timed outcome =
        Time([&] { return groups_[rank]->ReduceNow(Layer("bn1"), MomentsOf(rank, 0)).status(); });
    EXPECT_TRUE(absl::IsDeadlineExceeded(outcome.status)) << outcome.status;
    EXPECT_THAT(Text(outcome.status),
                AllOf(HasSubstr("bn1"), HasSubstr("rank 2"), HasSubstr("host2")));
    EXPECT_LE(outcome.took, kTimeout + kPromise);
  });
}

TEST_F(RoundFailureTest, AMemberThatLeftIsNamedToThoseThatGoOn) {
  Connect(3);
  EXPECT_TRUE(groups_[2]->Leave().ok());
  InThreads(2, [&](int rank) {
    const absl::Status status = groups_[rank]->ReduceNow(Layer("bn1"), MomentsOf(rank, 0)).status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(Text(status), HasSubstr("rank 2 left"));
    EXPECT_EQ(FailureOf(status)->hosts, std::vector<std::string>{"host2"});
    EXPECT_EQ(Text(groups_[rank]->ReduceNow(Layer("bn2"), MomentsOf(rank, 0)).status()),
              Text(status));
    EXPECT_TRUE(groups_[rank]->connected()) << "a norm must be told, not go local";
  });
}

TEST(LossTest, AMemberThatVanishesIsNamedToAllAtOnce) {
  const auto coordinator = StartCoordinator();
  // Rank 2 by hand, so that it can vanish without a word.
  std::unique_ptr<Transport> transport = NewGrpcTransport(coordinator->address());
  wire::Join join;
  join.group = "world";
  join.rank = 2;
  join.world_size = 3;
  join.host = "host2";
  join.pid = 77;
  join.incarnation = std::string(wire::kIncarnationBytes, 'i');
  join.round_timeout = absl::Seconds(20);
  join.join_timeout = absl::Seconds(20);
  std::thread third([&] {
    EXPECT_TRUE(JoinGroup(coordinator->address(), join, &MonotonicClock(), transport.get()).ok());
  });
  std::unique_ptr<Group> groups[2];
  InThreads(2, [&](int rank) {
    auto group = Group::Connect(Options(coordinator->address(), rank, 3));
    ASSERT_TRUE(group.ok()) << group.status();
    groups[rank] = *std::move(group);
  });
  third.join();
  MomentsFuture pending[2] = {groups[0]->Reduce(Layer("bn1"), MomentsOf(0, 0)),
                              groups[1]->Reduce(Layer("bn1"), MomentsOf(1, 0))};
  transport.reset();
  for (int rank : {0, 1}) {
    const Timed outcome = Time([&] { return pending[rank].Wait().status(); });
    EXPECT_TRUE(absl::IsAborted(outcome.status)) << outcome.status;
    EXPECT_THAT(Text(outcome.status),
                AllOf(HasSubstr("rank 2"), HasSubstr("host2"), HasSubstr("pid 77")));
    EXPECT_EQ(FailureOf(outcome.status)->ranks, std::vector<uint32_t>{2});
    EXPECT_LT(outcome.took, absl::Seconds(2));
  }
}

TEST(LossTest, ACoordinatorThatNeverComesBackFailsEverythingByTheDeadline) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(700);
  auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  const auto groups =
      ConnectAll(address, 2, [&](GroupOptions* options) { options->round_timeout = kTimeout; });
  MomentsFuture pending = groups[0]->Reduce(Layer("bn1"), MomentsOf(0, 0));
  server.reset();  // at once, without draining
  const Timed first = Time([&] { return pending.Wait().status(); });
  EXPECT_TRUE(absl::IsUnavailable(first.status)) << first.status;
  EXPECT_THAT(Text(first.status), AllOf(HasSubstr("rank 0 of group world (epoch 1) at " + address),
                                        HasSubstr("attempts to come back; last error: "),
                                        HasSubstr("round 1 layer bn1 (forward, step 1) waits")));
  EXPECT_LE(first.took, kTimeout + kPromise);
  EXPECT_EQ(groups[0]->ReduceNow(Layer("bn2"), MomentsOf(0, 0)).status(), first.status);
  const Timed other =
      Time([&] { return groups[1]->ReduceNow(Layer("bn1"), MomentsOf(1, 0)).status(); });
  EXPECT_TRUE(absl::IsUnavailable(other.status)) << other.status;
  EXPECT_THAT(Text(other.status), HasSubstr("rank 1 of group world (epoch 1) at " + address));
  EXPECT_LE(other.took, kTimeout + kPromise);
}

TEST(LossTest, ACoordinatorThatGoesDownInOrderIsNoFailureOfLeave) {
  auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 2, [](GroupOptions* options) {
    options->round_timeout = absl::Milliseconds(500);
  });
  InThreads(2, [&](int rank) {
    EXPECT_TRUE(groups[rank]->ReduceNow(Layer("bn1"), MomentsOf(rank, 0)).ok());
  });
  coordinator.reset();
  EXPECT_TRUE(groups[0]->Leave().ok());
  const absl::Status status = groups[1]->ReduceNow(Layer("bn2"), MomentsOf(1, 0)).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_FALSE(groups[1]->Leave().ok()) << "a round was refused";
}

TEST(SilenceTest, ACoordinatorThatStopsAnsweringIsNamedAtTheDeadline) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(500);
  const SilentCoordinator coordinator(SilentCoordinator::Says::kJoined, 500);
  auto group = Group::Connect(Options(coordinator.address(), 0, 1));
  ASSERT_TRUE(group.ok()) << group.status();
  MomentsFuture queued = (*group)->Reduce(Layer("bn0"), MomentsOf(0, 0));
  Timed outcome = Time([&] { return (*group)->ReduceNow(Layer("bn1"), MomentsOf(0, 0)).status(); });
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome.status)) << outcome.status;
  EXPECT_THAT(Text(outcome.status),
              AllOf(HasSubstr("round 1 layer bn0"), HasSubstr(coordinator.address()),
                    HasSubstr("rank 0 of group world (epoch 1)")));
  EXPECT_GE(outcome.took, kTimeout);
  EXPECT_LE(outcome.took, kTimeout + kPromise);
  EXPECT_EQ(queued.Wait().status(), outcome.status);
  outcome = Time([&] { return (*group)->ReduceNow(Layer("bn2"), MomentsOf(0, 0)).status(); });
  EXPECT_LT(outcome.took, kPromise) << "later calls fail at once";
  outcome = Time([&] {
    group->reset();
    return absl::OkStatus();
  });
  EXPECT_LT(outcome.took, absl::Seconds(2));
}

TEST(SilenceTest, LeavingASilentCoordinatorIsBounded) {
  const SilentCoordinator coordinator(SilentCoordinator::Says::kJoined, 60'000);
  auto group = Group::Connect(Options(coordinator.address(), 0, 1));
  ASSERT_TRUE(group.ok()) << group.status();
  const Timed outcome = Time([&] { return (*group)->Leave(); });
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome.status)) << outcome.status;
  EXPECT_LE(outcome.took, absl::Seconds(1) + kPromise);
}

TEST(ProxyTest, AProxyForDownloadsIsNotAsked) {
  const auto coordinator = StartCoordinator();
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  const auto group = Group::Connect(Options(coordinator->address(), 0, 1));
  unsetenv("http_proxy");
  EXPECT_TRUE(group.ok()) << group.status();
}

}  // namespace
}  // namespace syncnorm
