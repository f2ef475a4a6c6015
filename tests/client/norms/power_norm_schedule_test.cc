// When PowerNorm waits, what it refuses while statistics are under way, and programs in which
// forwards run ahead of their backwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <syncnorm/power_norm.h>

#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/client/norms/power_norm_run.h"
#include "tests/support/compare.h"

namespace syncnorm::testing {
namespace {

using Semantics = PowerNormSemantics;
using Schedule = PowerNormSchedule;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kChannels = 4;

PowerNormOptions Options(Semantics semantics, int64_t warmup, Schedule schedule) {
  return {.channels = kChannels,
          .alpha_bkw = 0.8,
          .warmup_iters = warmup,
          .semantics = semantics,
          .schedule = schedule};
}

// One member and its data, a call at a time.
class Worker {
 public:
  Worker(const PowerNormOptions& options, Reducer* reducer)
      : norm_(*SyncPowerNorm::Create("pn", options, reducer)) {}

  absl::Status Forward(const PowerNormStep& step, int rank) {
    x_.push_back(std::make_unique<HostTensor>(DType::kF64, step.shapes[rank], Layout::kTokens,
                                              step.x[rank]));
    HostTensor y(DType::kF64, step.shapes[rank], Layout::kTokens);
    contexts_.emplace_back();
    const uint8_t* padding = step.padding[rank].empty() ? nullptr : step.padding[rank].data();
    const absl::Status status =
        norm_->Forward(x_.back()->tensor(), padding, y.tensor(), &contexts_.back());
    y_.push_back(y.Load());
    return status;
  }

  // The gradient of the n-th Forward.
  absl::Status Backward(const PowerNormStep& step, int rank, size_t n) {
    const HostTensor dy(DType::kF64, step.shapes[rank], Layout::kTokens, step.dy[rank]);
    HostTensor dx(DType::kF64, step.shapes[rank], Layout::kTokens);
    const Tensor dx_tensor = dx.tensor();
    const absl::Status status = norm_->Backward(contexts_[n], dy.tensor(), &dx_tensor, nullptr);
    dx_.push_back(dx.Load());
    return status;
  }

  SyncPowerNorm& norm() { return *norm_; }
  const std::vector<Numbers>& y() const { return y_; }
  const std::vector<Numbers>& dx() const { return dx_; }

 private:
  std::unique_ptr<SyncPowerNorm> norm_;
  std::vector<std::unique_ptr<HostTensor>> x_;
  std::vector<SyncPowerNorm::Context> contexts_;
  std::vector<Numbers> y_, dx_;
};

// A word is a call: F the next forward, Bn the backward of forward n, D Drain.
using Program = std::vector<std::string>;

class PowerNormProgramTest
    : public ::testing::TestWithParam<std::tuple<Semantics, bool, Schedule>> {};

INSTANTIATE_TEST_SUITE_P(
    Variants, PowerNormProgramTest,
    ::testing::Combine(::testing::Values(Semantics::kReference, Semantics::kPaper),
                       ::testing::Bool(),
                       ::testing::Values(Schedule::kDeferred, Schedule::kBlocking)));

TEST_P(PowerNormProgramTest, IsRightWhateverTheOrderOfForwardsAndBackwards) {
  const Program programs[] = {
      {"F", "F", "F", "B0", "B1", "B2"},                // accumulation, first in, first out
      {"F", "F", "F", "F", "B3", "B2", "B1", "B0"},     // a stack, as weight sharing makes
      {"F", "F", "B1", "F", "B2", "B0", "F", "B3"},     // a pipeline
      {"F", "F", "F", "B2", "F", "F", "B4"},            // forwards without a backward
      {"F", "B0", "D", "F", "F", "B2", "D", "B1", "F"}  // drained in between
  };
  const auto [semantics, masked_backward, schedule] = GetParam();
  std::mt19937_64 random(Seed(31));
  for (int64_t warmup : {0, 1, 2, 3, 9}) {
    for (const Program& program : programs) {
      SCOPED_TRACE(::testing::Message()
                   << "warm-up " << warmup << ", " << ::testing::PrintToString(program));
      PowerNormOptions options = Options(semantics, warmup, schedule);
      options.masked_backward = masked_backward;
      const auto steps = RandomSteps(&random, 2, 6, kChannels, DType::kF64, true, false);

      PowerNormOracle oracle = OracleOf(options);
      std::vector<PowerNormOracle::Saved> saved(steps.size());
      std::vector<Numbers> want_y, want_dx;
      const auto run_oracle = [&](const std::string& word, size_t forwards) {
        if (word == "F") {
          const PowerNormStep& step = steps[forwards];
          want_y.push_back(oracle.Forward(
              Concatenate(step.x),
              [&] {
                std::vector<uint8_t> valid;
                for (int rank = 0; rank < 2; ++rank) {
                  for (uint8_t byte : ValidOf(step.padding[rank], step.shapes[rank])) {
                    valid.push_back(byte);
                  }
                }
                return valid;
              }(),
              &saved[forwards]));
        } else if (word != "D") {
          const size_t n = word[1] - '0';
          want_dx.push_back(oracle.Backward(saved[n], Concatenate(steps[n].dy)).dx);
        }
      };
      size_t forwards = 0;
      for (const std::string& word : program) {
        run_oracle(word, forwards);
        forwards += word == "F";
      }

      InProcessGroup group(2);
      std::vector<std::vector<Numbers>> y(2), dx(2);
      std::vector<PowerNormState> states(2);
      group.Run([&](int rank, Reducer* reducer) {
        Worker worker(options, reducer);
        size_t next = 0;
        for (const std::string& word : program) {
          const size_t n = word.size() > 1 ? word[1] - '0' : 0;
          const absl::Status status = word == "F"   ? worker.Forward(steps[next++], rank)
                                      : word == "D" ? worker.norm().Drain()
                                                    : worker.Backward(steps[n], rank, n);
          ASSERT_TRUE(status.ok()) << status;
        }
        ASSERT_TRUE(worker.norm().Drain().ok());
        y[rank] = worker.y();
        dx[rank] = worker.dx();
        states[rank] = *worker.norm().State();
      });
      ASSERT_EQ(y[0].size(), want_y.size());
      for (size_t i = 0; i < want_y.size(); ++i) {
        ExpectClose("pn programs y", Concatenate({y[0][i], y[1][i]}), want_y[i], 1e-12);
      }
      ASSERT_EQ(dx[0].size(), want_dx.size());
      for (size_t i = 0; i < want_dx.size(); ++i) {
        ExpectClose("pn programs dx", Concatenate({dx[0][i], dx[1][i]}), want_dx[i], 1e-12);
      }
      ExpectState("pn programs", states[0], oracle, 1e-12);
      EXPECT_EQ(states[0], states[1]);
    }
  }
}

// Results are held back by the group: whoever waits for one would be seen.
TEST(PowerNormScheduleTest, AfterWarmUpForwardsNeverWaitAndPaperBackwardsNeither) {
  std::mt19937_64 random(Seed(32));
  for (Semantics semantics : {Semantics::kReference, Semantics::kPaper}) {
    const auto steps = RandomSteps(&random, 2, 3, kChannels, DType::kF64, false, false);
    InProcessGroup group(2);
    Meeting meeting(2);
    group.Run([&](int rank, Reducer* reducer) {
      Worker worker(Options(semantics, 1, Schedule::kDeferred), reducer);
      ASSERT_TRUE(worker.Forward(steps[0], rank).ok());
      ASSERT_TRUE(worker.Backward(steps[0], rank, 0).ok());
      ASSERT_TRUE(worker.norm().Drain().ok());
      meeting.Wait();
      group.Hold();
      ASSERT_TRUE(worker.Forward(steps[1], rank).ok());  // returns: nothing is waited for
      if (semantics == Semantics::kPaper) {
        ASSERT_TRUE(worker.Backward(steps[1], rank, 1).ok());
      }
      meeting.Wait();
      EXPECT_EQ(group.completed(), semantics == Semantics::kPaper ? 4u : 3u);
      group.Release();
      ASSERT_TRUE(worker.norm().Drain().ok());
    });
  }
}

TEST(PowerNormScheduleTest, CountsOnlyTheWaitsThatItsScheduleCosts) {
  constexpr int kWarmup = 3, kSteps = 8;
  const struct {
    Semantics semantics;
    Schedule schedule;
    int64_t in_warm_up, after;  // a step
  } cases[] = {{Semantics::kReference, Schedule::kDeferred, 1, 0},
               {Semantics::kPaper, Schedule::kDeferred, 2, 0},
               {Semantics::kReference, Schedule::kBlocking, 2, 2},
               {Semantics::kPaper, Schedule::kBlocking, 2, 2}};
  std::mt19937_64 random(Seed(33));
  for (const auto& [semantics, schedule, in_warm_up, after] : cases) {
    const auto steps = RandomSteps(&random, 2, kSteps, kChannels, DType::kF32, false, false);
    InProcessGroup group(2);
    Meeting meeting(2);  // between calls, so that what is under way has come
    group.Run([&, semantics = semantics, schedule = schedule, in_warm_up = in_warm_up,
               after = after](int rank, Reducer* reducer) {
      Worker worker(Options(semantics, kWarmup, schedule), reducer);
      for (int s = 0; s < kSteps; ++s) {
        const int64_t before = worker.norm().blocking_waits();
        ASSERT_TRUE(worker.Forward(steps[s], rank).ok());
        meeting.Wait();
        ASSERT_TRUE(worker.Backward(steps[s], rank, s).ok());
        meeting.Wait();
        EXPECT_EQ(worker.norm().blocking_waits() - before, s < kWarmup ? in_warm_up : after);
      }
      const int64_t waits = worker.norm().blocking_waits();
      ASSERT_TRUE(worker.norm().Drain().ok());
      EXPECT_EQ(worker.norm().blocking_waits(), waits);
    });
  }
}

TEST(PowerNormScheduleTest, CountsAResultThatIsNotThereAtItsLatestMoment) {
  std::mt19937_64 random(Seed(34));
  const auto steps = RandomSteps(&random, 2, 1, kChannels, DType::kF32, false, false);
  InProcessGroup group(2);
  group.Hold();
  std::thread network([&] {
    while (group.waiting() < 2) std::this_thread::yield();
    group.Release();
  });
  group.Run([&](int rank, Reducer* reducer) {
    Worker worker(Options(Semantics::kReference, 0, Schedule::kDeferred), reducer);
    ASSERT_TRUE(worker.Forward(steps[0], rank).ok());
    EXPECT_EQ(worker.norm().blocking_waits(), 0);
    ASSERT_TRUE(worker.Backward(steps[0], rank, 0).ok());
    EXPECT_EQ(worker.norm().blocking_waits(), 1);
    ASSERT_TRUE(worker.norm().Drain().ok());
  });
  network.join();
}

TEST(PowerNormScheduleTest, RefusesStateAndEvalUntilDrained) {
  std::mt19937_64 random(Seed(35));
  const auto steps = RandomSteps(&random, 2, 2, kChannels, DType::kF64, false, false);
  InProcessGroup group(2);
  group.Run([&](int rank, Reducer* reducer) {
    Worker worker(Options(Semantics::kPaper, 0, Schedule::kDeferred), reducer);
    SyncPowerNorm& norm = worker.norm();
    const PowerNormState fresh = *norm.State();
    const auto expect_refused = [&](const char* what) {
      norm.set_training(false);
      const absl::Status eval = worker.Forward(steps[1], rank);
      norm.set_training(true);
      for (const absl::Status& status : {norm.State().status(), norm.LoadState(fresh), eval}) {
        EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
        EXPECT_THAT(std::string(status.message()), HasSubstr("pn"));
        EXPECT_THAT(std::string(status.message()), HasSubstr(what));
        EXPECT_THAT(std::string(status.message()), HasSubstr("Drain()"));
      }
    };
    ASSERT_TRUE(worker.Forward(steps[0], rank).ok());
    expect_refused("forward");
    ASSERT_TRUE(norm.Drain().ok());
    ASSERT_TRUE(worker.Backward(steps[0], rank, 0).ok());
    expect_refused("backward");
    ASSERT_TRUE(norm.Drain().ok());
    ASSERT_TRUE(norm.Drain().ok());  // nothing to do
    EXPECT_NE(*norm.State(), fresh);
    ASSERT_TRUE(norm.LoadState(fresh).ok());
    norm.set_training(false);
    EXPECT_TRUE(worker.Forward(steps[1], rank).ok());
  });
}

TEST(PowerNormScheduleTest, OnTheLocalPathNothingIsEverUnderWay) {
  std::mt19937_64 random(Seed(36));
  const auto steps = RandomSteps(&random, 1, 1, kChannels, DType::kF64, false, false);
  Worker worker(Options(Semantics::kPaper, 0, Schedule::kDeferred), nullptr);
  ASSERT_TRUE(worker.Forward(steps[0], 0).ok());
  EXPECT_TRUE(worker.norm().State().ok());
  ASSERT_TRUE(worker.Backward(steps[0], 0, 0).ok());
  EXPECT_EQ(worker.norm().State()->at("iters"), Numbers{1});
  EXPECT_EQ(worker.norm().blocking_waits(), 0);
}

TEST(PowerNormScheduleTest, SubmitsInTheOrderOfTheCallsUnderTheStepOfEachForward) {
  std::mt19937_64 random(Seed(37));
  const auto steps = RandomSteps(&random, 2, 2, kChannels, DType::kF64, false, false);
  InProcessGroup group(2);
  group.Run([&](int rank, Reducer* reducer) {
    Worker worker(Options(Semantics::kReference, 1, Schedule::kDeferred), reducer);
    ASSERT_TRUE(worker.Forward(steps[0], rank).ok());
    ASSERT_TRUE(worker.Forward(steps[1], rank).ok());
    ASSERT_TRUE(worker.Backward(steps[1], rank, 1).ok());
    ASSERT_TRUE(worker.Backward(steps[0], rank, 0).ok());
    worker.norm().set_training(false);
    ASSERT_TRUE(worker.norm().Drain().ok());
    ASSERT_TRUE(worker.Forward(steps[0], rank).ok());  // eval: no round
    ASSERT_TRUE(worker.Backward(steps[0], rank, 2).ok());
  });
  EXPECT_THAT(group.submitted(1), ElementsAre("forward pn step 1", "forward pn step 2",
                                              "backward pn step 2", "backward pn step 1"));
}

// The failure comes out of the call that collects the round; nothing moves; training goes on.
TEST(PowerNormScheduleTest, AFailedRoundMovesNothingAndIsToldWhereItIsCollected) {
  std::mt19937_64 random(Seed(38));
  for (uint64_t failing : {1, 3, 4}) {  // forward 1 (warm-up), forward 2, backward 2
    SCOPED_TRACE(failing);
    const auto steps = RandomSteps(&random, 2, 3, kChannels, DType::kF64, false, false);
    InProcessGroup group(2);
    group.FailRound(failing, absl::DeadlineExceededError("rank 1 is missing"));
    group.Run([&](int rank, Reducer* reducer) {
      Worker worker(Options(Semantics::kReference, 1, Schedule::kDeferred), reducer);
      const PowerNormState fresh = *worker.norm().State();
      const absl::Status first = worker.Forward(steps[0], rank);
      EXPECT_EQ(first.ok(), failing != 1) << first;
      if (!first.ok()) {
        EXPECT_EQ(*worker.norm().State(), fresh);
        EXPECT_TRUE(worker.Forward(steps[0], rank).ok());  // the same step, once more
        EXPECT_EQ(worker.norm().State()->at("iters"), Numbers{1});
        return;
      }
      ASSERT_TRUE(worker.Backward(steps[0], rank, 0).ok());
      ASSERT_TRUE(worker.norm().Drain().ok());
      const PowerNormState before = *worker.norm().State();
      ASSERT_TRUE(worker.Forward(steps[1], rank).ok());
      const absl::Status backward = worker.Backward(steps[1], rank, 1);
      const absl::Status drained = worker.norm().Drain();
      EXPECT_EQ((failing == 3 ? backward : drained).code(), absl::StatusCode::kDeadlineExceeded);
      EXPECT_EQ((failing == 3 ? drained : backward), absl::OkStatus());
      const PowerNormState after = *worker.norm().State();
      EXPECT_EQ(after.at("ema_gz"), before.at("ema_gz"));
      EXPECT_EQ(after.at("running_phi") == before.at("running_phi"), failing == 3);
      EXPECT_EQ(after.at("iters"), Numbers{failing == 3 ? 1.0 : 2.0});
      if (failing == 3) {
        EXPECT_EQ(worker.Backward(steps[1], rank, 1).code(), absl::StatusCode::kDeadlineExceeded);
      }
      EXPECT_TRUE(worker.Forward(steps[2], rank).ok());
    });
  }
}

TEST(PowerNormScheduleTest, ALostConnectionIsToldByTheStatisticsUnderWay) {
  std::mt19937_64 random(Seed(39));
  const auto steps = RandomSteps(&random, 2, 1, kChannels, DType::kF64, false, false);
  InProcessGroup group(2);
  group.FailRound(1, absl::UnavailableError("the coordinator is gone"));
  Meeting meeting(2);
  group.Run([&](int rank, Reducer* reducer) {
    Worker worker(Options(Semantics::kPaper, 0, Schedule::kDeferred), reducer);
    EXPECT_TRUE(worker.norm().need_sync());
    ASSERT_TRUE(worker.Forward(steps[0], rank).ok());
    meeting.Wait();
    group.Disconnect();
    EXPECT_FALSE(worker.norm().need_sync());
    EXPECT_EQ(worker.Forward(steps[0], rank).code(), absl::StatusCode::kUnavailable);
    EXPECT_TRUE(worker.Forward(steps[0], rank).ok());  // local from now on
  });
}

}  // namespace
}  // namespace syncnorm::testing
