// The norms over real connections to a real coordinator: what one worker with the whole batch would
// compute, and bit for bit what the group within a process does, whose tests try everything else.
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>
#include <syncnorm/power_norm.h>

#include <random>
#include <string>
#include <tuple>

#include "tests/client/norms/batch_norm_run.h"
#include "tests/client/norms/power_norm_run.h"
#include "tests/client/workers.h"
#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

constexpr int kSteps = 20;

// Each member a thread with a Group of its own.
Members OverTheNetwork(const std::string& address, int world) {
  return {world, [address, world](const Members::Body& body) {
            std::vector<std::unique_ptr<Group>> groups = ConnectAll(address, world);
            InThreads(world, [&](int rank) { body(rank, groups[rank].get()); });
            InThreads(world, [&](int rank) {
              const absl::Status left = groups[rank]->Leave();
              EXPECT_TRUE(left.ok()) << left;
            });
          }};
}

class OverTheNetworkTest : public ::testing::TestWithParam<std::tuple<int, DType>> {
 protected:
  int world() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  std::string Family(const std::string& norm) const {
    return norm + " over the network " + std::string(syncnorm::Name(dtype()));
  }

  const std::unique_ptr<CoordinatorHandle> coordinator_ = StartCoordinator();
};

TEST_P(OverTheNetworkTest, BatchNormEqualsTheWholeBatch) {
  for (const bool masked : {false, true}) {
    std::mt19937_64 random(Seed(31));
    const BatchNormOptions options{.channels = 5};
    const auto steps = RandomSteps(&random, world(), kSteps, 5, {3, 2}, dtype(), masked);
    const auto far = Train(OverTheNetwork(coordinator_->address(), world()), options, dtype(),
                           Layout::kContiguous, steps);
    ExpectEqualsWholeBatch(Family("bn"), options, dtype(), steps, far);

    InProcessGroup group(world());
    const auto near = Train(&group, options, dtype(), Layout::kContiguous, steps);
    for (int s = 0; s < kSteps; ++s) {
      for (int rank = 0; rank < world(); ++rank) {
        SCOPED_TRACE(::testing::Message() << "step " << s << " rank " << rank);
        EXPECT_EQ(far[s][rank].y, near[s][rank].y);
        EXPECT_EQ(far[s][rank].dx, near[s][rank].dx);
        EXPECT_EQ(far[s][rank].running_mean, near[s][rank].running_mean);
        EXPECT_EQ(far[s][rank].running_var, near[s][rank].running_var);
      }
    }
  }
}

TEST_P(OverTheNetworkTest, PowerNormEqualsTheWholeBatchAndEverySchedule) {
  for (const auto semantics : {PowerNormSemantics::kReference, PowerNormSemantics::kPaper}) {
    std::mt19937_64 random(Seed(32));
    PowerNormOptions options{
        .channels = 6, .alpha_bkw = 0.8, .warmup_iters = 8, .groups = 2, .semantics = semantics};
    const auto steps = RandomSteps(&random, world(), kSteps, 6, dtype(), true, false);
    const auto far =
        Train(OverTheNetwork(coordinator_->address(), world()), options, dtype(), steps);
    ExpectEqualsWholeBatch(Family("pn"), options, dtype(), steps, far);

    InProcessGroup group(world());
    options.schedule = PowerNormSchedule::kBlocking;
    ExpectSameBits(far, Train(&group, options, dtype(), steps));
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, OverTheNetworkTest,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 7),
                                            ::testing::Values(DType::kF32, DType::kF64)),
                         [](const auto& info) {
                           return "Of" + std::to_string(std::get<0>(info.param)) + "_" +
                                  std::string(syncnorm::Name(std::get<1>(info.param)));
                         });

}  // namespace
}  // namespace syncnorm::testing
