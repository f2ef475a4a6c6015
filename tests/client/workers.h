// Workers of one group as threads of this process, each with a connection of
// its own, over loopback.
#pragma once

#include <gtest/gtest.h>
#include <syncnorm/embedded.h>
#include <syncnorm/group.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"

namespace syncnorm {

inline std::string Text(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

// A coordinator of this process, on a port of its own.
inline std::unique_ptr<CoordinatorHandle> StartCoordinator() {
  auto coordinator = StartEmbeddedCoordinator("127.0.0.1:0");
  EXPECT_TRUE(coordinator.ok()) << coordinator.status();
  return *std::move(coordinator);
}

inline GroupOptions Options(const std::string& address, int rank, int world_size) {
  GroupOptions options;
  options.address = address;
  options.rank = rank;
  options.world_size = world_size;
  options.connect_timeout = absl::Seconds(20);
  options.round_timeout = absl::Seconds(20);
  return options;
}

// Runs `body` once a rank, each on a thread of its own, and waits for all.
inline void InThreads(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&body, i] { body(i); });
  for (std::thread& thread : threads) thread.join();
}

// The members of one group, by rank.
inline std::vector<std::unique_ptr<Group>> ConnectAll(
    const std::string& address, int world_size,
    const std::function<void(GroupOptions*)>& change = [](GroupOptions*) {}) {
  std::vector<std::unique_ptr<Group>> groups(world_size);
  InThreads(world_size, [&](int rank) {
    GroupOptions options = Options(address, rank, world_size);
    change(&options);
    absl::StatusOr<std::unique_ptr<Group>> group = Group::Connect(options);
    ASSERT_TRUE(group.ok()) << group.status();
    groups[rank] = *std::move(group);
  });
  return groups;
}

// Moments that differ from rank to rank and from round to round.
inline Moments MomentsOf(int rank, int round, int64_t channels = 16) {
  Moments moments = Moments::MeanM2(channels, Precision::kF32);
  moments.count = static_cast<uint64_t>(rank + 1);
  for (int64_t c = 0; c < channels; ++c) {
    moments.row(0)[c] = 0.1 * rank + 0.01 * round + 0.001 * static_cast<double>(c);
    moments.row(1)[c] = 1.0 / (1 + rank + round + static_cast<double>(c));
  }
  return moments;
}

// What a group of one host makes of them: folded in rank order.
inline Moments Expected(int world_size, int round, int64_t channels = 16) {
  Moments total = Moments::MeanM2(channels, Precision::kF32);
  for (int rank = 0; rank < world_size; ++rank) {
    Moments part = MomentsOf(rank, round, channels);
    RoundToWire(&part);
    EXPECT_TRUE(Fold(part, &total).ok());
  }
  RoundToWire(&total);
  return total;
}

inline ReduceKey Layer(const std::string& name, int step = 1) {
  return {name, Direction::kForward, static_cast<uint64_t>(step), DType::kF32};
}

// Every rank reduces round after round, each as expected, until `stop`, which rank 0 tells the
// others by its count; `rounds` counts those of rank 0.
inline void ReduceUntil(const std::atomic<bool>& stop,
                        const std::vector<std::unique_ptr<Group>>& groups,
                        std::atomic<int>* rounds) {
  const int count = static_cast<int>(groups.size());
  InThreads(count, [&](int rank) {
    for (int round = 0;; ++round) {
      Moments moments = MomentsOf(rank, round);
      const bool last = rank == 0 && stop;
      if (last) moments.count = 999;
      const auto result = groups[rank]->ReduceNow(Layer("bn", round + 1), moments);
      ASSERT_TRUE(result.ok()) << result.status();
      if (result->count > 999) break;
      ASSERT_EQ(*result, Expected(count, round));
      if (rank == 0) ++*rounds;
    }
  });
}

}  // namespace syncnorm
