// A broken stream and a coordinator that is started again are not noticed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/failure.h>
#include <syncnorm/group.h>

#include <atomic>
#include <thread>

#include "tests/client/server_on.h"
#include "tests/client/workers.h"

namespace syncnorm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Every rank reduces `rounds` rounds; gives how many were as expected.
void ReduceInAllRanks(const std::vector<std::unique_ptr<Group>>& groups, int first, int rounds) {
  const int count = static_cast<int>(groups.size());
  InThreads(count, [&](int rank) {
    for (int round = first; round < first + rounds; ++round) {
      const auto result = groups[rank]->ReduceNow(Layer("bn", round + 1), MomentsOf(rank, round));
      ASSERT_TRUE(result.ok()) << result.status();
      ASSERT_EQ(*result, Expected(count, round));
    }
  });
}

TEST(GroupResumeTest, ACoordinatorThatIsStartedAgainLosesNoRound) {
  auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  const auto groups = ConnectAll(address, 3);
  std::atomic<int> rounds{0};
  std::atomic<bool> stop{false};
  std::thread restarts([&] {
    for (int i = 0; i < 5; ++i) {
      // In the middle of rounds, and as soon as the first one after a restart.
      const int enough = rounds + (i % 2 == 0 ? 50 : 1);
      while (rounds < enough) absl::SleepFor(absl::Milliseconds(1));
      server.reset();
      server = StartServer(address);
    }
    stop = true;
  });
  ReduceUntil(stop, groups, &rounds);
  restarts.join();
  for (const auto& group : groups) EXPECT_EQ(group->epoch(), 1u);
  InThreads(3, [&](int rank) { EXPECT_TRUE(groups[rank]->Leave().ok()); });
}

TEST(GroupResumeTest, RoundsInFlightSurviveARestart) {
  auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  const auto groups = ConnectAll(address, 2);
  ReduceInAllRanks(groups, 0, 3);
  std::vector<MomentsFuture> pending;
  for (int round = 3; round < 40; ++round) {
    pending.push_back(groups[0]->Reduce(Layer("bn", round + 1), MomentsOf(0, round)));
  }
  server.reset();
  for (int round = 40; round < 50; ++round) {
    pending.push_back(groups[0]->Reduce(Layer("bn", round + 1), MomentsOf(0, round)));
  }
  server = StartServer(address);
  for (int round = 3; round < 50; ++round) {
    const auto result = groups[1]->ReduceNow(Layer("bn", round + 1), MomentsOf(1, round));
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, Expected(2, round));
    EXPECT_EQ(*pending[round - 3].Wait(), Expected(2, round));
  }
}

TEST(GroupResumeTest, ACoordinatorThatWasDrainedAndComesBackLosesNoRound) {
  auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  const auto groups = ConnectAll(address, 2);
  ReduceInAllRanks(groups, 0, 2);
  EXPECT_TRUE(server->Drain(absl::Seconds(2)));
  server.reset();
  server = StartServer(address);
  ReduceInAllRanks(groups, 2, 3);
  EXPECT_EQ(groups[0]->epoch(), 1u);
}

TEST(GroupResumeTest, AnIdleGroupComesBackAfterARestart) {
  auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  const auto groups = ConnectAll(address, 2);
  server.reset();
  server = StartServer(address);
  while (server->snapshot().members < 2) absl::SleepFor(absl::Milliseconds(5));
  ReduceInAllRanks(groups, 0, 2);
}

TEST(GroupResumeTest, AWorkerThatStartsAnewEndsWhatTheOthersWouldResume) {
  auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  auto groups = ConnectAll(address, 2);
  ReduceInAllRanks(groups, 0, 2);
  server.reset();
  groups[1].reset();  // as if its process had died meanwhile
  server = StartServer(address);
  MomentsFuture pending = groups[0]->Reduce(Layer("bn", 3), MomentsOf(0, 2));
  while (server->snapshot().members < 1) absl::SleepFor(absl::Milliseconds(5));
  std::thread again([&] {
    auto options = Options(address, 1, 2);
    options.connect_timeout = absl::Seconds(10);
    auto group = Group::Connect(options);
    ASSERT_TRUE(group.ok()) << group.status();
    groups[1] = *std::move(group);
  });
  const absl::Status status = pending.Wait().status();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_THAT(Text(status), AllOf(HasSubstr("rank 1"), HasSubstr("has started anew"),
                                  HasSubstr("epoch 1 cannot be resumed")));
  groups[0].reset();
  auto group = Group::Connect(Options(address, 0, 2));
  again.join();
  ASSERT_TRUE(group.ok()) << group.status();
  groups[0] = *std::move(group);
  ReduceInAllRanks(groups, 0, 2);
}

TEST(GroupShrinkTest, OpenRoundsCompleteWithoutALostMember) {
  auto server = StartServer("127.0.0.1:0");
  auto groups = ConnectAll(server->address(), 3,
                           [](GroupOptions* options) { options->on_loss = OnLoss::kShrink; });
  ReduceInAllRanks(groups, 0, 2);
  MomentsFuture pending[2] = {groups[0]->Reduce(Layer("bn", 3), MomentsOf(0, 2)),
                              groups[1]->Reduce(Layer("bn", 3), MomentsOf(1, 2))};
  groups[2].reset();
  EXPECT_EQ(*pending[0].Wait(), Expected(2, 2));
  EXPECT_EQ(*pending[1].Wait(), Expected(2, 2));
  groups.pop_back();
  ReduceInAllRanks(groups, 3, 2);
  EXPECT_EQ(groups[0]->members(), (std::vector<int>{0, 1}));
  EXPECT_GT(groups[0]->epoch(), 1u);
}

TEST(GroupShrinkTest, AWorkerThatComesBackIsAdmittedAtABoundaryWithTheOthersState) {
  auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  auto groups =
      ConnectAll(address, 3, [](GroupOptions* options) { options->on_loss = OnLoss::kShrink; });
  ReduceInAllRanks(groups, 0, 2);
  groups[2].reset();
  std::atomic<int> admitted{0};
  std::thread late([&] {
    GroupOptions options = Options(address, 2, 3);
    options.on_loss = OnLoss::kShrink;
    auto group = Group::Connect(options);
    ASSERT_TRUE(group.ok()) << group.status();
    EXPECT_EQ((*group)->handed_over(), "weights of step 7");
    groups[2] = *std::move(group);
  });
  InThreads(2, [&](int rank) {
    for (int round = 2; admitted < 2; ++round) {
      const auto boundary = groups[rank]->AtBoundary(
          []() -> absl::StatusOr<std::string> { return std::string("weights of step 7"); });
      ASSERT_TRUE(boundary.ok()) << boundary.status();
      if (!boundary->admitted.empty()) {
        EXPECT_EQ(boundary->admitted, std::vector<int>{2});
        EXPECT_EQ(boundary->members, (std::vector<int>{0, 1, 2}));
        ++admitted;
        break;
      }
    }
  });
  late.join();
  ReduceInAllRanks(groups, 50, 3);
  InThreads(3, [&](int rank) {
    const auto boundary = groups[rank]->AtBoundary(nullptr);
    ASSERT_TRUE(boundary.ok()) << boundary.status();
    EXPECT_TRUE(boundary->admitted.empty());
  });
}

TEST(GroupShrinkTest, AStateThatCannotBeGivenIsToldToTheWorkerThatWaitsAtOnce) {
  auto server = StartServer("127.0.0.1:0");
  const std::string address = server->address();
  auto groups =
      ConnectAll(address, 2, [](GroupOptions* options) { options->on_loss = OnLoss::kShrink; });
  ReduceInAllRanks(groups, 0, 2);
  struct {
    std::string given;
    absl::StatusCode code;
    const char* text;
  } const cases[] = {
      {"", absl::StatusCode::kInternal, "the disk is full"},
      {std::string((128 << 20) + 1, 's'), absl::StatusCode::kResourceExhausted,
       "at most 134217728 are taken"},
  };
  for (const auto& each : cases) {
    groups[1].reset();
    absl::Status refused;
    std::atomic<bool> over{false};
    std::thread late([&] {
      GroupOptions options = Options(address, 1, 2);
      options.on_loss = OnLoss::kShrink;
      refused = Group::Connect(options).status();
      over = true;
    });
    absl::Status boundary;
    while (boundary.ok() && !over) {
      boundary = groups[0]
                     ->AtBoundary([&]() -> absl::StatusOr<std::string> {
                       if (each.given.empty()) return absl::InternalError("the disk is full");
                       return each.given;
                     })
                     .status();
    }
    late.join();
    EXPECT_EQ(boundary.code(), each.code) << boundary;
    EXPECT_TRUE(absl::IsAborted(refused)) << refused;
    EXPECT_THAT(std::string(refused.message()),
                AllOf(HasSubstr("rank 0 (host "), HasSubstr("cannot hand its state over"),
                      HasSubstr(each.text)));
  }
}

TEST(GroupFinishTest, OthersGoOnWithoutAMemberThatHasFinishedUntilAllHave) {
  auto server = StartServer("127.0.0.1:0");
  const auto groups = ConnectAll(server->address(), 3,
                                 [](GroupOptions* options) { options->on_loss = OnLoss::kFinish; });
  InThreads(3, [&](int rank) {
    const int batches = rank == 2 ? 2 : rank == 1 ? 4 : 5;
    for (int round = 0; round < batches; ++round) {
      const auto result = groups[rank]->ReduceNow(Layer("bn", round + 1), MomentsOf(rank, round));
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(*result, Expected(round < 2 ? 3 : round < 4 ? 2 : 1, round));
    }
    EXPECT_TRUE(groups[rank]->Finish(absl::Seconds(20)).ok());
  });
  ReduceInAllRanks(groups, 10, 2);
}

}  // namespace
}  // namespace syncnorm
