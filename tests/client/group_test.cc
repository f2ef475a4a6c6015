// The Group against a real coordinator, over loopback.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/group.h>

#include <atomic>

#include "tests/client/workers.h"

namespace syncnorm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class WorldTest : public ::testing::TestWithParam<int> {};

TEST_P(WorldTest, EveryMemberGetsTheSameBytes) {
  const int world_size = GetParam();
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), world_size);
  InThreads(world_size, [&](int rank) {
    for (int round = 0; round < 20; ++round) {
      const auto result = groups[rank]->ReduceNow(Layer("bn", round), MomentsOf(rank, round));
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(*result, Expected(world_size, round));
    }
  });
}

TEST_P(WorldTest, AHundredRoundsInFlightFromEveryMemberEndInAnyOrder) {
  const int world_size = GetParam();
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), world_size);
  InThreads(world_size, [&](int rank) {
    constexpr int kRounds = 100;
    std::vector<MomentsFuture> futures;
    for (int round = 0; round < kRounds; ++round) {
      futures.push_back(groups[rank]->Reduce(Layer("bn", round), MomentsOf(rank, round)));
    }
    // 37 and 100 have no common factor: each round once, in no order.
    for (int i = 0; i < kRounds; ++i) {
      const int round = (i * 37 + rank) % kRounds;
      const auto result = futures[round].Wait();
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(*result, Expected(world_size, round));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Sizes, WorldTest, ::testing::Values(1, 2, 3, 4, 5, 6, 7, 8));

TEST(GroupTest, KnowsItsNames) {
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 3, [](GroupOptions* options) {
    options->group = "stage:1";
    options->host = "host" + std::to_string(options->rank);
  });
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(groups[rank]->name(), "stage:1");
    EXPECT_EQ(groups[rank]->rank(), rank);
    EXPECT_EQ(groups[rank]->world_size(), 3);
    EXPECT_GT(groups[rank]->epoch(), 0u);
    EXPECT_EQ(groups[rank]->epoch(), groups[0]->epoch());
    EXPECT_EQ(groups[rank]->hosts(), (std::vector<std::string>{"host0", "host1", "host2"}));
    EXPECT_TRUE(groups[rank]->connected());
  }
}

TEST(GroupTest, AResultArrivesWhileNobodyWaits) {
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 2);
  MomentsFuture first = groups[0]->Reduce(Layer("bn"), MomentsOf(0, 0));
  MomentsFuture second = groups[1]->Reduce(Layer("bn"), MomentsOf(1, 0));
  while (!first.ready() || !second.ready()) std::this_thread::yield();
  EXPECT_EQ(*first.Wait(), Expected(2, 0));
  EXPECT_EQ(*second.Wait(), Expected(2, 0));
  EXPECT_FALSE(first.valid());
}

TEST(GroupTest, ADroppedFutureStillContributes) {
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 2);
  groups[0]->Reduce(Layer("bn"), MomentsOf(0, 0));
  EXPECT_EQ(*groups[1]->ReduceNow(Layer("bn"), MomentsOf(1, 0)), Expected(2, 0));
}

TEST(GroupTest, ManyThreadsWaitOnOneGroup) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 64;
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 2);
  InThreads(2, [&](int rank) {
    std::vector<MomentsFuture> futures;
    for (int round = 0; round < kRounds; ++round) {
      futures.push_back(groups[rank]->Reduce(Layer("bn", round), MomentsOf(rank, round)));
    }
    InThreads(kThreads, [&](int thread) {
      for (int round = kRounds - 1 - thread; round >= 0; round -= kThreads) {
        const auto result = futures[round].Wait();
        ASSERT_TRUE(result.ok()) << result.status();
        EXPECT_EQ(*result, Expected(2, round));
      }
    });
  });
}

TEST(GroupTest, BlockingAndDeferredRoundsMix) {
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 3);
  InThreads(3, [&](int rank) {
    MomentsFuture deferred;
    for (int round = 0; round < 200; ++round) {
      if (deferred.valid()) {
        EXPECT_EQ(*deferred.Wait(), Expected(3, round - 1));
      }
      deferred = groups[rank]->Reduce(Layer("power", round), MomentsOf(rank, round));
      const auto now = groups[rank]->ReduceNow(Layer("batch", round), MomentsOf(rank, round + 7));
      ASSERT_TRUE(now.ok()) << now.status();
      EXPECT_EQ(*now, Expected(3, round + 7));
    }
  });
}

TEST(GroupTest, ManyThreadsSubmit) {
  // With one member any order of submission is the same on all.
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 1);
  InThreads(8, [&](int thread) {
    for (int round = 0; round < 50; ++round) {
      const auto result =
          groups[0]->ReduceNow(Layer("bn" + std::to_string(thread), round), MomentsOf(0, round));
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(*result, Expected(1, round));
    }
  });
}

TEST(GroupTest, LargeMomentsPass) {
  constexpr int64_t kChannels = 100'000;  // 1.2 MB a message
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 2);
  InThreads(2, [&](int rank) {
    std::vector<MomentsFuture> futures;
    for (int round = 0; round < 4; ++round) {
      futures.push_back(
          groups[rank]->Reduce(Layer("wide", round), MomentsOf(rank, round, kChannels)));
    }
    for (int round = 0; round < 4; ++round) {
      const auto result = futures[round].Wait();
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_TRUE(*result == Expected(2, round, kChannels));
    }
  });
}

TEST(GroupTest, AProcessCanBeInSeveralGroups) {
  const auto coordinator = StartCoordinator();
  const auto in_group = [](const char* name) {
    return [name](GroupOptions* options) { options->group = name; };
  };
  const auto world = ConnectAll(coordinator->address(), 4, in_group("world"));
  const auto even = ConnectAll(coordinator->address(), 2, in_group("world/even"));
  const auto odd = ConnectAll(coordinator->address(), 2, in_group("world/odd"));
  InThreads(4, [&](int rank) {
    Group* const half = (rank % 2 == 0 ? even : odd)[rank / 2].get();
    for (int round = 0; round < 20; ++round) {
      EXPECT_EQ(*world[rank]->ReduceNow(Layer("bn", round), MomentsOf(rank, round)),
                Expected(4, round));
      EXPECT_EQ(*half->ReduceNow(Layer("bn", round), MomentsOf(rank / 2, round)),
                Expected(2, round));
    }
  });
}

TEST(GroupTest, LeavesOnceAndThenRefuses) {
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 1);
  MomentsFuture last = groups[0]->Reduce(Layer("bn"), MomentsOf(0, 0));
  EXPECT_TRUE(groups[0]->Leave().ok()) << "after everything submitted has been answered";
  EXPECT_TRUE(last.ready());
  EXPECT_EQ(*last.Wait(), Expected(1, 0));
  EXPECT_FALSE(groups[0]->connected());
  EXPECT_TRUE(groups[0]->Leave().ok());
  const absl::Status status = groups[0]->ReduceNow(Layer("bn2"), MomentsOf(0, 0)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("layer bn2"), HasSubstr("rank 0 of group world")));
}

TEST(GroupTest, AFutureOutlivesItsGroup) {
  const auto coordinator = StartCoordinator();
  auto groups = ConnectAll(coordinator->address(), 1);
  MomentsFuture last = groups[0]->Reduce(Layer("bn"), MomentsOf(0, 0));
  groups.clear();
  EXPECT_EQ(*last.Wait(), Expected(1, 0));
}

TEST(GroupTest, ConnectingAgainFormsANewEpoch) {
  const auto coordinator = StartCoordinator();
  uint64_t last_epoch = 0;
  for (int i = 0; i < 3; ++i) {
    const auto groups = ConnectAll(coordinator->address(), 2);
    EXPECT_GT(groups[0]->epoch(), last_epoch);
    last_epoch = groups[0]->epoch();
    InThreads(2, [&](int rank) {
      EXPECT_EQ(*groups[rank]->ReduceNow(Layer("bn"), MomentsOf(rank, 0)), Expected(2, 0));
      EXPECT_TRUE(groups[rank]->Leave().ok());
    });
  }
}

TEST(GroupTest, LayerNamesAreTakenOnce) {
  const auto coordinator = StartCoordinator();
  const auto groups = ConnectAll(coordinator->address(), 1);
  EXPECT_TRUE(groups[0]->AddLayer("bn1", nullptr).ok());
  const absl::Status again = groups[0]->AddLayer("bn1", nullptr);
  EXPECT_TRUE(absl::IsAlreadyExists(again));
  EXPECT_THAT(Text(again), HasSubstr("layer bn1 exists already in group world"));
  groups[0]->RemoveLayer("bn1");
  EXPECT_TRUE(groups[0]->AddLayer("bn1", nullptr).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(groups[0]->AddLayer("", nullptr)));
  EXPECT_TRUE(absl::IsInvalidArgument(groups[0]->AddLayer(std::string(100'000, 'x'), nullptr)));
}

// Ranks of a job without a server: rank 0 carries the coordinator.
class EmbeddedTest : public ::testing::Test {
 protected:
  // A port that was free a moment ago.
  EmbeddedTest() : address_(StartCoordinator()->address()) {}

  std::unique_ptr<Group> Connect(int rank, int world_size) {
    GroupOptions options = Options(address_, rank, world_size);
    options.coordinator_factory = StartEmbeddedCoordinator;
    absl::StatusOr<std::unique_ptr<Group>> group = Group::Connect(options);
    EXPECT_TRUE(group.ok()) << group.status();
    return group.ok() ? *std::move(group) : nullptr;
  }

  const std::string address_;
};

TEST_F(EmbeddedTest, RankZeroServesTheOthers) {
  InThreads(4, [&](int rank) {
    const std::unique_ptr<Group> group = Connect(rank, 4);
    ASSERT_NE(group, nullptr);
    for (int round = 0; round < 50; ++round) {
      const auto result = group->ReduceNow(Layer("bn", round), MomentsOf(rank, round));
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(*result, Expected(4, round));
    }
    EXPECT_TRUE(group->Leave().ok());
  });
}

TEST_F(EmbeddedTest, AWorldOfOneWorks) {
  const std::unique_ptr<Group> group = Connect(0, 1);
  ASSERT_NE(group, nullptr);
  EXPECT_EQ(*group->ReduceNow(Layer("bn"), MomentsOf(0, 0)), Expected(1, 0));
}

TEST_F(EmbeddedTest, RankZeroMayBeTheFirstToGo) {
  std::unique_ptr<Group> groups[3];
  InThreads(3, [&](int rank) { groups[rank] = Connect(rank, 3); });
  std::vector<MomentsFuture> futures;
  for (int rank = 0; rank < 3; ++rank) {
    futures.push_back(groups[rank]->Reduce(Layer("bn"), MomentsOf(rank, 0)));
  }
  InThreads(3, [&](int rank) {
    if (rank == 0) {
      groups[0].reset();
    } else {
      EXPECT_EQ(*futures[rank].Wait(), Expected(3, 0));
      EXPECT_TRUE(groups[rank]->Leave().ok());
    }
  });
  EXPECT_EQ(*futures[0].Wait(), Expected(3, 0));
}

TEST_F(EmbeddedTest, AnAddressThatIsTakenIsNamed) {
  const auto holder = StartCoordinator();
  GroupOptions options = Options(holder->address(), 0, 1);
  options.coordinator_factory = StartEmbeddedCoordinator;
  const absl::Status status = Group::Connect(options).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Text(status), HasSubstr(holder->address()));
}

}  // namespace
}  // namespace syncnorm
