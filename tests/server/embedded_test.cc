#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/embedded.h>

#include <memory>
#include <string>

#include "tests/server/test_worker.h"

namespace syncnorm {
namespace {

TEST(EmbeddedTest, ServesWhereItSays) {
  absl::StatusOr<std::unique_ptr<CoordinatorHandle>> coordinator =
      StartEmbeddedCoordinator("127.0.0.1:0");
  ASSERT_TRUE(coordinator.ok()) << coordinator.status();
  EXPECT_THAT((*coordinator)->address(), testing::StartsWith("127.0.0.1:"));
  EXPECT_THAT((*coordinator)->address(), testing::Not(testing::EndsWith(":0")));
  server::TestWorker worker((*coordinator)->address());
  worker.Join(0, 1);
  worker.ReadJoined();
  worker.Contribute(1, 7);
  EXPECT_EQ(worker.ReadResult().moments.values[0], 7);
}

TEST(EmbeddedTest, DestroyingItTellsTheWorkers) {
  absl::StatusOr<std::unique_ptr<CoordinatorHandle>> coordinator =
      StartEmbeddedCoordinator("127.0.0.1:0");
  ASSERT_TRUE(coordinator.ok()) << coordinator.status();
  server::TestWorker worker((*coordinator)->address());
  worker.Join(0, 1);
  worker.ReadJoined();
  coordinator->reset();
  EXPECT_THAT(worker.ReadToEnd(), testing::HasSubstr("the coordinator is going down"));
}

TEST(EmbeddedTest, AnAddressThatCannotBeBoundIsNamed) {
  const auto first = StartEmbeddedCoordinator("127.0.0.1:0");
  ASSERT_TRUE(first.ok());
  const std::string address = (*first)->address();
  const auto second = StartEmbeddedCoordinator(address);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), testing::HasSubstr(address));
  EXPECT_EQ(StartEmbeddedCoordinator("nonsense").status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace syncnorm
