// What a coordinator holds: measured, not only counted.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/codec.h"
#include "server/coordinator.h"
#include "tests/server/core_world.h"

namespace syncnorm::server {
namespace {

constexpr uint32_t kMembers = 8;
constexpr uint64_t kLayers = 1000;
constexpr int64_t kChannels = 2048;
constexpr uint64_t kMiB = 1 << 20;

// A sanitizer keeps what was freed: then only what the coordinator counts is checked.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kResidentMeansHeld = false;
#else
constexpr bool kResidentMeansHeld = true;
#endif

uint64_t Resident() {
  std::ifstream file("/proc/self/statm");
  uint64_t total = 0;
  uint64_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// A group of 8, driven without keeping the replies, as the service does.
class CoordinatorMemoryTest : public testing::Test {
 protected:
  CoordinatorMemoryTest() : coordinator_(Settings()) {}

  void Join(uint32_t hosts) {
    for (uint32_t rank = 0; rank < kMembers; ++rank) {
      wire::Join join = MakeJoin(rank, kMembers);
      join.host = absl::StrCat("h", rank % hosts);
      coordinator_.OnOpen(now_, 1 + rank, &output_);
      coordinator_.OnJoin(now_, 1 + rank, join, &output_);
    }
    output_.Clear();
  }

  void Contribute(uint32_t rank, uint64_t round) {
    Sent sent;
    sent.round = round;
    sent.layer = absl::StrCat("backbone.layer", round % kLayers, ".bn");
    sent.kind = MomentKind::kMeanM2;
    sent.precision = Precision::kF32;
    sent.rows = 2;
    sent.channels = kChannels;
    wire::Contribution contribution = Make(sent, 1);
    coordinator_.OnContribution(now_, 1 + rank, &contribution, &output_);
    answers_ += output_.replies.size();
    output_.Clear();
  }

  void Report(const std::string& what, uint64_t before) {
    const Snapshot s = coordinator_.snapshot();
    std::cout << what << ": open " << s.open_rounds << " rounds, " << s.open_bytes / kMiB
              << " MiB; kept " << s.kept_rounds << " rounds, " << s.kept_bytes / 1024
              << " KiB; resident grew by " << static_cast<int64_t>(Resident() - before) / 1024
              << " KiB\n";
    RecordProperty(what, absl::StrCat(s.open_bytes, " ", s.kept_bytes));
  }

  Coordinator coordinator_;
  Output output_;
  const absl::Time now_ = absl::UnixEpoch();
  uint64_t answers_ = 0;
};

TEST_F(CoordinatorMemoryTest, AThousandLayersStepAfterStepHoldOnlyTheKeptResults) {
  Join(/*hosts=*/2);
  const uint64_t before = Resident();
  uint64_t after_first = 0;
  for (uint64_t round = 1; round <= 3 * kLayers; ++round) {
    for (uint32_t rank = 0; rank < kMembers; ++rank) Contribute((rank + round) % kMembers, round);
    if (round == kLayers) after_first = Resident();
  }
  Report("3 steps of 1000 layers x 2048 channels, 8 members", before);
  const Snapshot snapshot = coordinator_.snapshot();
  EXPECT_EQ(answers_, 3 * kLayers * kMembers);
  EXPECT_EQ(snapshot.open_bytes, 0u);
  EXPECT_EQ(snapshot.kept_rounds, Limits().kept_rounds);
  EXPECT_LE(snapshot.kept_bytes, Limits().kept_bytes);
  // 64 x 2,048 x (8 + 4) bytes = 1.5 MiB of results.
  if (kResidentMeansHeld) {
    EXPECT_LE(Resident() - before, 16 * kMiB);
    EXPECT_LE(Resident(), after_first + kMiB) << "memory grows with the rounds";
  }
}

TEST_F(CoordinatorMemoryTest, AThousandLayersInFlightInOrderHoldOnePartialAHost) {
  Join(/*hosts=*/2);
  const uint64_t before = Resident();
  for (uint32_t rank = 0; rank + 1 < kMembers; ++rank) {
    for (uint64_t round = 1; round <= kLayers; ++round) Contribute(rank, round);
  }
  Report("1000 rounds in flight, in order", before);
  // Of two hosts: 2 x 2 x 2,048 x 8 bytes a round.
  EXPECT_EQ(coordinator_.snapshot().open_bytes, kLayers * 2 * 2 * kChannels * 8);
  for (uint64_t round = 1; round <= kLayers; ++round) Contribute(kMembers - 1, round);
  EXPECT_EQ(answers_, kLayers * kMembers);
  EXPECT_EQ(coordinator_.snapshot().open_bytes, 0u);
}

TEST_F(CoordinatorMemoryTest, AThousandLayersInFlightInTheWorstOrderStayWithinTheLimit) {
  Join(/*hosts=*/1);
  const uint64_t before = Resident();
  for (uint32_t rank = kMembers - 1; rank > 0; --rank) {
    for (uint64_t round = 1; round <= kLayers; ++round) Contribute(rank, round);
  }
  Report("1000 rounds in flight, worst order", before);
  EXPECT_EQ(answers_, 0u) << "no round failed";
  EXPECT_LE(coordinator_.snapshot().open_bytes, Limits().open_bytes);
  if (kResidentMeansHeld) {
    EXPECT_LE(Resident() - before, Limits().open_bytes + 32 * kMiB);
  }
  for (uint64_t round = 1; round <= kLayers; ++round) Contribute(0, round);
  EXPECT_EQ(answers_, kLayers * kMembers);
  Report("and complete", before);
}

}  // namespace
}  // namespace syncnorm::server
