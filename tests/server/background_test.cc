// Work beside the thread that serves rounds.

#include "server/background.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"

namespace syncnorm::server {
namespace {

TEST(BackgroundTest, DoesItsJobsInOrderOnAnotherThread) {
  std::vector<int> done;
  std::thread::id thread;
  {
    Background background;
    for (int i = 0; i < 5; ++i) {
      EXPECT_TRUE(background.Run([&, i] {
        done.push_back(i);
        thread = std::this_thread::get_id();
      }));
    }
  }
  EXPECT_EQ(done, (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(BackgroundTest, RefusesWhatIsTooMuchAndGoesOn) {
  absl::Notification started;
  absl::Notification go_on;
  Background background;
  background.Run([&] {
    started.Notify();
    go_on.WaitForNotification();
  });
  started.WaitForNotification();
  for (size_t i = 0; i < Background::kJobs; ++i) EXPECT_TRUE(background.Run([] {}));
  EXPECT_FALSE(background.Run([] {}));
  absl::Notification done;
  go_on.Notify();
  while (!background.Run([&] { done.Notify(); })) std::this_thread::yield();
  done.WaitForNotification();
}

TEST(BackgroundTest, AJobMayGiveMoreWork) {
  Background background;
  absl::Notification done;
  background.Run([&] { background.Run([&] { done.Notify(); }); });
  done.WaitForNotification();
}

TEST(BackgroundTest, StopFinishesWhatWaitsAndTakesNoMore) {
  Background background;
  absl::Notification go_on;
  int done = 0;
  background.Run([&] { go_on.WaitForNotification(); });
  background.Run([&] { ++done; });
  go_on.Notify();
  background.Stop();
  EXPECT_EQ(done, 1);
  EXPECT_FALSE(background.Run([&] { ++done; }));
  background.Stop();
  EXPECT_EQ(done, 1);
}

}  // namespace
}  // namespace syncnorm::server
