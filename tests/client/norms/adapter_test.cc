// What an adapter for other tensors and other owners of the values needs of the norms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/batch_norm.h>

#include <memory>
#include <thread>
#include <vector>

#include "client/norms/backend.h"
#include "tests/support/host_tensor.h"

namespace syncnorm::testing {
namespace {

using ::testing::HasSubstr;

TEST(BackendScopeTest, TheInnermostScopeOfTheThreadPicksTheKernels) {
  EXPECT_EQ(&norms::Backend(), &kernels::Cpu());
  {
    const norms::BackendScope outer(&kernels::Scalar());
    EXPECT_EQ(&norms::Backend(), &kernels::Scalar());
    {
      const norms::BackendScope inner(&kernels::Cpu());
      EXPECT_EQ(&norms::Backend(), &kernels::Cpu());
    }
    EXPECT_EQ(&norms::Backend(), &kernels::Scalar());
    std::thread([] { EXPECT_EQ(&norms::Backend(), &kernels::Cpu()); }).join();
  }
  EXPECT_EQ(&norms::Backend(), &kernels::Cpu());
}

class ChangedOptionsTest : public ::testing::Test {
 protected:
  void Forward() {
    const HostTensor x(DType::kF64, {2, 1}, Layout::kContiguous, {1, 3});
    HostTensor y(DType::kF64, {2, 1}, Layout::kContiguous);
    ASSERT_TRUE(norm_->Forward(x.tensor(), nullptr, y.tensor(), nullptr).ok());
    y_ = y.Load();
  }

  std::unique_ptr<SyncBatchNorm> norm_ =
      SyncBatchNorm::Create("norm", {.channels = 1, .eps = 0, .momentum = 0.5}, nullptr).value();
  std::vector<double> y_;
};

TEST_F(ChangedOptionsTest, EpsAndMomentumHoldFromTheNextForwardOn) {
  Forward();
  EXPECT_EQ(y_[1], 1);
  EXPECT_EQ(norm_->running_mean()[0], 1);
  ASSERT_TRUE(norm_->SetEpsAndMomentum(3, 1.0).ok());
  Forward();
  EXPECT_EQ(y_[1], 0.5);  // (3 - 2) / sqrt(1 + 3)
  EXPECT_EQ(norm_->running_mean()[0], 2);
}

TEST_F(ChangedOptionsTest, WhatCreateRefusesIsRefusedAndChangesNothing) {
  const absl::Status momentum = norm_->SetEpsAndMomentum(3, 7.0);
  EXPECT_TRUE(absl::IsInvalidArgument(momentum));
  EXPECT_THAT(momentum.ToString(), HasSubstr("norm: momentum is 7"));
  EXPECT_TRUE(absl::IsInvalidArgument(norm_->SetEpsAndMomentum(-1, 0.5)));
  EXPECT_EQ(norm_->options().eps, 0);
  EXPECT_EQ(norm_->options().momentum, 0.5);
}

}  // namespace
}  // namespace syncnorm::testing
