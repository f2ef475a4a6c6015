// The norms on devices over real connections to a real coordinator: what the group within a process
// computes, bit for bit; a member that is lost, a round that takes too long.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "proto/clock.h"
#include "tests/client/device/norm_on_device.h"
#include "tests/client/device/power_norm_device_run.h"
#include "tests/client/workers.h"
#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Truly;

constexpr int kSteps = 8;

const auto kIsNan = Truly([](double number) { return std::isnan(number); });

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

class DeviceOverTheNetworkTest : public ::testing::TestWithParam<std::tuple<int, DType>> {
 protected:
  int world() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }
  std::string Family(const std::string& norm) const {
    return "device " + norm + " over the network " + std::string(syncnorm::Name(dtype()));
  }

  const std::unique_ptr<CoordinatorHandle> coordinator_ = StartCoordinator();
};

TEST_P(DeviceOverTheNetworkTest, BatchNormEqualsTheWholeBatch) {
  std::mt19937_64 random(Seed(201));
  const BatchNormOptions options{.channels = 5};
  const auto steps = RandomSteps(&random, world(), kSteps, 5, {3, 2}, dtype(), true);
  const auto far = TrainOnDevice(OverTheNetwork(coordinator_->address(), world()), options, dtype(),
                                 Layout::kContiguous, steps);
  ExpectEqualsWholeBatch(Family("bn"), options, dtype(), steps, far);
  InProcessGroup group(world());
  const auto near = TrainOnDevice(&group, options, dtype(), Layout::kContiguous, steps);
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

TEST_P(DeviceOverTheNetworkTest, PowerNormEqualsTheWholeBatchAndEverySchedule) {
  for (const auto semantics : {PowerNormSemantics::kReference, PowerNormSemantics::kPaper}) {
    std::mt19937_64 random(Seed(202));
    PowerNormOptions options{
        .channels = 6, .alpha_bkw = 0.8, .warmup_iters = 3, .groups = 2, .semantics = semantics};
    const auto steps = RandomSteps(&random, world(), kSteps, 6, dtype(), true, false);
    const auto far = TrainOnDevice(OverTheNetwork(coordinator_->address(), world()), options,
                                   dtype(), steps, {}, /*free_running=*/true);
    ExpectEqualsWholeBatch(Family("pn"), options, dtype(), steps, far);
    InProcessGroup group(world());
    options.schedule = PowerNormSchedule::kBlocking;
    ExpectSameBits(far, TrainOnDevice(&group, options, dtype(), steps));
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, DeviceOverTheNetworkTest,
                         ::testing::Combine(::testing::Values(2, 3),
                                            ::testing::Values(DType::kF32, DType::kF64)),
                         [](const auto& info) {
                           return "Of" + std::to_string(std::get<0>(info.param)) + "_" +
                                  std::string(syncnorm::Name(std::get<1>(info.param)));
                         });

template <typename Kind>
class DeviceLossTest : public ::testing::Test {
 protected:
  using OnDevice = NormOnDevice<Kind>;

  std::mt19937_64 random_{Seed(203)};
  const NormData data_{&random_, 8, 3};
  const std::unique_ptr<CoordinatorHandle> coordinator_ = StartCoordinator();
};
TYPED_TEST_SUITE(DeviceLossTest, BothKinds);

// Two layers; the second one's round is never joined.  Its stream is released by the deadline, and
// the failure has all names.
TYPED_TEST(DeviceLossTest, AMemberThatIsLateIsNamedWithTheLayerByTheDeadline) {
  constexpr absl::Duration kTimeout = absl::Milliseconds(700);
  const auto groups = ConnectAll(this->coordinator_->address(), 2,
                                 [&](GroupOptions* options) { options->round_timeout = kTimeout; });
  InThreads(2, [&](int rank) {
    const auto reducer = OnStreams(groups[rank].get());
    NormOnDevice<TypeParam> first(TypeParam::Of(3), reducer.get(), DType::kF64, "encoder.1");
    NormOnDevice<TypeParam> second(TypeParam::Of(3), reducer.get(), DType::kF64, "encoder.2");
    const auto one = first.Prepare(this->data_), two = second.Prepare(this->data_);
    ASSERT_TRUE(first.Forward(one.get()).ok());
    first.stream().Synchronize();
    ASSERT_TRUE(first->Check().ok());
    if (rank == 1) return;
    const absl::Time began = MonotonicClock().Now();
    ASSERT_TRUE(second.Forward(two.get()).ok());
    second.stream().Synchronize();
    const absl::Duration took = MonotonicClock().Now() - began;
    EXPECT_GE(took, kTimeout * 0.9);
    EXPECT_LE(took, kTimeout + absl::Seconds(2));
    const absl::Status told = second->Check();
    EXPECT_EQ(told.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(Text(told), AllOf(HasSubstr("encoder.2"), HasSubstr("forward"), HasSubstr("step 1"),
                                  HasSubstr("world"), HasSubstr("1")));
    EXPECT_THAT(two->LoadY(), Each(kIsNan));
    EXPECT_TRUE(first->Check().ok());
    EXPECT_TRUE(reducer->Check().ok()) << "once";
  });
}

// Its process ends while the other's stream waits for it.
TYPED_TEST(DeviceLossTest, AMemberThatIsLostIsNamedAndTheStreamGoesOn) {
  auto groups = ConnectAll(this->coordinator_->address(), 2);
  const auto reducer = OnStreams(groups[0].get());
  NormOnDevice<TypeParam> norm(TypeParam::Of(3), reducer.get());
  const auto call = norm.Prepare(this->data_);
  ASSERT_TRUE(norm.Forward(call.get()).ok());
  groups[1].reset();
  norm.stream().Synchronize();
  const absl::Status told = norm->Check();
  EXPECT_EQ(told.code(), absl::StatusCode::kAborted) << told;
  EXPECT_THAT(Text(told), AllOf(HasSubstr("rank 1"), HasSubstr("world")));
  EXPECT_THAT(call->LoadY(), Each(kIsNan));
  EXPECT_EQ(norm.State().at(TypeParam::kCounter), Numbers{0});
}

}  // namespace
}  // namespace syncnorm::testing
