// fork() with a living Group, as a data loader does it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/client/workers.h"

namespace syncnorm {
namespace {

// Runs `body` in a child; whether it returned true there.
bool InChild(const std::function<bool()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body() ? 0 : 1);
  int status = 0;
  return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// How often; tests/e2e asks for more than an ordinary run does.
int Forks(int usually) {
  const char* const told = std::getenv("SYNCNORM_TEST_FORKS");
  int forks = usually;
  EXPECT_TRUE(told == nullptr || absl::SimpleAtoi(told, &forks)) << told;
  return forks;
}

// Rounds of two members run while `meanwhile` does, in a thread of its own, and then to their end.
void WhileRoundsRun(const std::function<void(Group*)>& meanwhile) {
  const auto coordinator = StartCoordinator();
  auto groups = ConnectAll(coordinator->address(), 2);
  std::atomic<bool> stop{false};
  std::thread member([&] {
    for (int round = 0;; ++round) {
      Moments moments = MomentsOf(1, round);
      const auto result = groups[1]->ReduceNow(Layer("bn", round), moments);
      ASSERT_TRUE(result.ok()) << result.status();
      if (result->count == 1001) break;  // the other member's last word
    }
  });
  std::thread other([&] {
    meanwhile(groups[0].get());
    stop = true;
  });
  for (int round = 0;; ++round) {
    Moments moments = MomentsOf(0, round);
    const bool last = stop;
    if (last) moments.count = 999;
    const auto result = groups[0]->ReduceNow(Layer("bn", round), moments);
    ASSERT_TRUE(result.ok()) << result.status();
    if (last) break;
  }
  other.join();
  member.join();
}

// What a command prints.
std::string OutputOf(const char* command) {
  std::FILE* const pipe = popen(command, "re");
  if (pipe == nullptr) return "popen failed";
  std::string output;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) output += static_cast<char>(c);
  EXPECT_EQ(pclose(pipe), 0);
  return output;
}

bool Refuses(const absl::Status& status, pid_t parent) {
  return absl::IsFailedPrecondition(status) &&
         Text(status) == absl::StrCat("client created in pid ", parent, " used in pid ", getpid(),
                                      "; create it after fork");
}

TEST(GroupForkTest, AChildIsRefusedAndTheParentGoesOn) {
  const pid_t parent = getpid();
  const auto coordinator = StartCoordinator();
  auto groups = ConnectAll(coordinator->address(), 2);
  MomentsFuture pending = groups[0]->Reduce(Layer("bn"), MomentsOf(0, 0));
  EXPECT_TRUE(InChild([&] {
    bool refused = pending.ready() && Refuses(pending.Wait().status(), parent);
    refused &= Refuses(groups[0]->ReduceNow(Layer("bn"), MomentsOf(0, 0)).status(), parent);
    MomentsFuture future = groups[0]->Reduce(Layer("bn"), MomentsOf(0, 0));
    refused &= future.ready() && Refuses(future.Wait().status(), parent);
    refused &= Refuses(groups[0]->AddLayer("x", nullptr), parent);
    refused &= Refuses(groups[0]->Leave(), parent);
    groups[0]->RemoveLayer("x");
    refused &= groups[0]->rank() == 0 && groups[0]->world_size() == 2;
    groups.clear();  // must not touch gRPC
    return refused;
  }));
  EXPECT_EQ(*groups[1]->ReduceNow(Layer("bn"), MomentsOf(1, 0)), Expected(2, 0));
  EXPECT_EQ(*pending.Wait(), Expected(2, 0));
}

TEST(GroupForkTest, ForksWhileRoundsRunDoNoHarm) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer of g++ 12 does not release its allocator's locks in a child "
                  "that is forked while another thread allocates";
#endif
  WhileRoundsRun([](Group* group) {
    const pid_t parent = getpid();
    for (int i = 0; i < Forks(100); ++i) {
      EXPECT_TRUE(InChild([&] {
        return Refuses(group->ReduceNow(Layer("bn"), MomentsOf(0, 0)).status(), parent);
      }));
    }
  });
}

TEST(GroupForkTest, AProgramThatIsRunMeanwhileInheritsNoSocket) {
  WhileRoundsRun([](Group*) {
    for (int i = 0; i < Forks(20); ++i) {
      const std::string descriptors = OutputOf("ls -l /proc/self/fd </dev/null 2>&1");
      EXPECT_THAT(descriptors, testing::HasSubstr("/dev/null"));
      EXPECT_THAT(descriptors, testing::Not(testing::HasSubstr("socket:"))) << descriptors;
    }
  });
}

}  // namespace
}  // namespace syncnorm
