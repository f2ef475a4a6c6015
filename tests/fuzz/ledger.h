// Ledger: the results that workers got, held against the promise:
//
//   agreement      all that get the result of one (run, epoch, round) get the same bytes
//   at most once   a result holds at most one contribution of a rank, and its values and its count
//                  stand for the same ones
//   validity       without a policy that leaves members out, it holds one of every rank
//   fencing        once a later process has a rank, none before it is in a result
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
#include <tuple>

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

  void Add(uint64_t run, const wire::Result& result, const std::string& bytes);

 private:
  static constexpr int kNobody = -1;
  using Lives = std::array<int, kMaxWorld>;  // by rank, in one result

  const uint32_t world_;
  const bool complete_;
  std::map<std::tuple<uint64_t, uint64_t, uint64_t>, std::string> results_;  // run, epoch, round
  std::map<uint64_t, std::map<uint64_t, Lives>> lives_;                      // run, round
};

}  // namespace syncnorm::fuzz
