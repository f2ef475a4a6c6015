// Random events, from fixed seeds: whatever happens, members have the same bytes for a round, each
// of their contributions is answered once, nobody waits for ever, and nothing is held when all are
// gone. (That only open streams get replies is checked by CoreWorld, everywhere.)

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/core_worker.h"
#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

constexpr uint32_t kWorkers = 3;
constexpr int kSeeds = 1000;
constexpr int kEvents = 250;

class RandomEvents {
 public:
  RandomEvents(OnLoss on_loss, uint64_t seed) : on_loss_(on_loss), random_(seed) {
    Restart();
    for (uint32_t rank = 0; rank < kWorkers; ++rank) {
      wire::Join join = MakeJoin(rank, kWorkers);
      join.on_loss = on_loss;
      workers_.emplace_back(join);
    }
    for (CoreWorker& worker : workers_) worker.Join(world());
    for (CoreWorker& worker : workers_) worker.Take();
  }

  void Run() {
    for (int i = 0; i < kEvents && !testing::Test::HasFailure(); ++i) {
      Event();
      CheckAgreement();
    }
    // The weather clears up: what is under way comes to an end.
    for (int i = 0; i < 200 && !testing::Test::HasFailure(); ++i) {
      for (CoreWorker& worker : workers_) {
        worker.Take();
        if (worker.open()) {
          HandOver(&worker);
        } else {
          ComeBack(&worker);
        }
      }
      world()->Pass(absl::Seconds(1));
      CheckAgreement();
    }
    world()->Pass(absl::Minutes(6));  // longer than any deadline
    for (CoreWorker& worker : workers_) {
      worker.Take();
      if (!worker.open() || !worker.joined()) continue;
      EXPECT_EQ(worker.unanswered(), 0u) << "rank " << worker.rank() << " waits for ever";
      completed_ += worker.answers().size();
    }
    for (CoreWorker& worker : workers_) {
      if (worker.open()) worker.Leave();
    }
    world()->Pass(absl::Minutes(6));
    const Snapshot left = world()->core().snapshot();
    EXPECT_EQ(left.streams, 0u);
    EXPECT_EQ(left.groups, 0u);
    EXPECT_EQ(left.members + left.away, 0u);
    EXPECT_EQ(left.open_rounds + left.kept_rounds, 0u);
    EXPECT_EQ(left.open_bytes + left.kept_bytes, 0u);
  }

  uint64_t completed() const { return completed_; }
  size_t lives() const { return lives_.size(); }

 private:
  CoreWorld* world() { return lives_.back().get(); }
  int Below(int n) { return std::uniform_int_distribution<int>(0, n - 1)(random_); }

  void Restart() {
    lives_.push_back(std::make_unique<CoreWorld>(WithGrace(1 + lives_.size())));
    for (CoreWorker& worker : workers_) worker.Forget();
  }
  void ComeBack(CoreWorker* worker) {
    if (worker->open()) worker->Disconnect();
    if (worker->member()) {
      worker->Resume(world());
    } else {
      worker->Join(world());
    }
  }
  void ResumeBeforeTheEndIsSeen(CoreWorker* worker) {
    const StreamId old = worker->stream();
    worker->Resume(world());
    if (!world()->closed(old)) world()->Disconnect(old);
  }
  void Crash(CoreWorker* worker) {
    if (worker->open()) worker->Disconnect();
    worker->join().incarnation = absl::StrCat("incarnation-", 1000 + ++processes_);
    worker->Join(world());
  }
  void Contribute(CoreWorker* worker) {
    if (!worker->open() || !worker->joined() || worker->known().finished) return;
    // Every fourth round is a boundary, after which a worker goes on when it has the result.
    const bool behind = worker->next() % 4 == 1;
    if (worker->unanswered() >= (behind ? 1 : 3)) return;
    worker->Contribute(/*boundary=*/worker->next() % 4 == 0);
  }
  void Finish(CoreWorker* worker) {
    if (on_loss_ == OnLoss::kFail || !worker->open() || !worker->joined()) return;
    if (worker->unanswered() == 0 && !worker->known().finished) worker->Finish();
  }
  void HandOver(CoreWorker* worker) {
    if (!worker->open() || !worker->joined() || worker->changes().empty()) return;
    const wire::EpochChanged& last = worker->changes().back();
    if (last.admitted.empty() || last.provider != worker->rank()) return;
    if (!handed_.insert(last.epoch).second) return;
    worker->HandOver("state", false);
    if (worker->open()) worker->HandOver(" of all", true);
  }
  void Event() {
    CoreWorker& worker = workers_[Below(kWorkers)];
    switch (const int what = Below(100); what) {
      case 0:
        Restart();
        break;
      case 1:
        Crash(&worker);
        break;
      case 2:
        if (worker.open() && on_loss_ == OnLoss::kShrink) worker.Leave();
        break;
      case 3:
        world()->Pass(absl::Seconds(31));
        break;
      case 4:
      case 5:
        world()->Pass(absl::Milliseconds(200));
        break;
      case 6:
      case 7:
      case 8:
        Finish(&worker);
        break;
      default:
        if (what < 14) {
          if (worker.open()) worker.Disconnect();
        } else if (what < 17) {
          if (worker.open() && worker.joined()) ResumeBeforeTheEndIsSeen(&worker);
        } else if (what < 30) {
          if (!worker.open() || !worker.failures().empty()) ComeBack(&worker);
        } else if (what < 40) {
          world()->Pass(absl::Milliseconds(1 + Below(20)));
        } else if (what < 45) {
          HandOver(&worker);
        } else if (what < 70) {
          worker.Take();
        } else {
          Contribute(&worker);
        }
    }
  }
  // Of those that are members now.
  void CheckAgreement() {
    for (const CoreWorker& one : workers_) {
      for (const CoreWorker& two : workers_) {
        if (one.rank() >= two.rank() || !one.joined() || !two.joined() || !one.open() ||
            !two.open() || one.known().run_id != two.known().run_id) {
          continue;
        }
        for (const auto& [round, bytes] : one.answers()) {
          const auto other = two.answers().find(round);
          if (other == two.answers().end()) continue;
          ASSERT_EQ(bytes, other->second)
              << "ranks " << one.rank() << " and " << two.rank() << ", round " << round;
        }
      }
    }
  }

  const OnLoss on_loss_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<CoreWorld>> lives_;
  std::vector<CoreWorker> workers_;
  std::set<uint64_t> handed_;  // epochs
  uint64_t processes_ = 0;
  uint64_t completed_ = 0;
};

class RandomEventsTest : public testing::TestWithParam<OnLoss> {};

TEST_P(RandomEventsTest, KeepTheMembersAgreedAndNothingHeld) {
  uint64_t completed = 0;
  size_t lives = 0;
  for (uint64_t seed = 1; seed <= kSeeds && !HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    RandomEvents events(GetParam(), seed);
    events.Run();
    completed += events.completed();
    lives += events.lives();
  }
  // The events are not all of the kind after which nothing goes on.
  EXPECT_GT(completed, kSeeds);
  EXPECT_GT(lives, 2 * kSeeds);
  RecordProperty("completed", static_cast<int>(completed));
}

INSTANTIATE_TEST_SUITE_P(Policies, RandomEventsTest,
                         testing::Values(OnLoss::kFail, OnLoss::kShrink, OnLoss::kFinish),
                         [](const testing::TestParamInfo<OnLoss>& info) {
                           return std::string(Name(info.param));
                         });

}  // namespace
}  // namespace syncnorm::server
