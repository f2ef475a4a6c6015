// Ledger: the results that workers got, held against the promise:
//
//   agreement      all that get the result of one (run, epoch, round) get the same bytes
//   at most once   a result holds at most one contribution of a rank, and its values and its count
//                  stand for the same ones
//   validity       without a policy that leaves members out, it holds one of every rank
//   fencing        once a later process has a rank, none before it is in a result
//
// What only dead processes have got is unknown to a coordinator that was started again: it is no
// result any more.
//
// Contributions can be told apart in their sum: each is a power of two, of its rank and of its
// process (Mark).
//
// Thread-safety: thread-compatible.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "proto/wire.h"

namespace syncnorm::fuzz {

constexpr uint32_t kMaxWorld = 4;
// Processes of a rank that can be told apart; all later ones are the last.
constexpr uint32_t kLives = 3;

// What the process `life` of `rank` contributes, as value and as count.
constexpr uint64_t Mark(uint32_t rank, uint32_t life) {
  return uint64_t{1} << (kLives * rank + (life < kLives ? life : kLives - 1));
}
// What it contributes when it says something else under the same key.
constexpr uint64_t OtherMark(uint32_t rank) { return uint64_t{1} << (kLives * kMaxWorld + rank); }

class Ledger {
 public:
  // Of a group of that size; `complete`: its policies leave nobody out.
  Ledger(uint32_t world, bool complete) : world_(world), complete_(complete) {}

  // The process that has `rank` now got it.
  void Add(uint64_t run, uint32_t rank, const wire::Result& result, const std::string& bytes);
  // The process that had `rank` is no more.
  void Died(uint32_t rank);
  void CoordinatorRestarted();

 private:
  static constexpr int kNobody = -1;
  using Lives = std::array<int, kMaxWorld>;  // by rank, in one result

  struct Entry {
    std::string bytes;
    Lives lives;
    uint32_t known = 0;        // ranks whose processes got it and live: bits
    bool of_this_life = true;  // of the coordinator
  };

  Lives Check(const wire::Result& result) const;

  const uint32_t world_;
  const bool complete_;
  std::map<uint64_t, std::map<std::pair<uint64_t, uint64_t>, Entry>> runs_;  // round, epoch
};

}  // namespace syncnorm::fuzz
