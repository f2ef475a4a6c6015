#include "tests/fuzz/ledger.h"

#include <bit>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "tests/fuzz/require.h"

namespace syncnorm::fuzz {

void Ledger::Add(uint64_t run, const wire::Result& result, const std::string& bytes) {
  const RoundKey& key = result.key;
  const auto [it, added] = results_.emplace(std::tuple(run, key.epoch, key.round), bytes);
  SYNCNORM_REQUIRE(it->second == bytes, absl::StrCat("agreement on ", Describe(key)));
  if (!added) return;

  const uint64_t marks = result.moments.count;
  const double sum = result.moments.values[0];
  if (std::isfinite(sum)) {
    SYNCNORM_REQUIRE(sum == static_cast<double>(marks),
                     absl::StrCat("values and count of ", Describe(key),
                                  " stand for the same: ", sum, ", ", marks));
  }
  Lives lives;
  lives.fill(kNobody);
  for (uint32_t rank = 0; rank < world_; ++rank) {
    uint64_t of_rank = marks & OtherMark(rank);
    for (uint32_t life = 0; life < kLives; ++life) {
      if ((marks & Mark(rank, life)) == 0) continue;
      of_rank |= Mark(rank, life);
      lives[rank] = static_cast<int>(life);
    }
    SYNCNORM_REQUIRE(std::popcount(of_rank) <= 1,
                     absl::StrCat("at most once: rank ", rank, " in ", Describe(key)));
    SYNCNORM_REQUIRE(!complete_ || of_rank != 0,
                     absl::StrCat("validity: rank ", rank, " is missing in ", Describe(key)));
  }
  for (const auto& [round, others] : lives_[run]) {
    for (uint32_t rank = 0; rank < world_; ++rank) {
      if (lives[rank] == kNobody || others[rank] == kNobody) continue;
      const bool in_order =
          round < key.round ? others[rank] <= lives[rank] : lives[rank] <= others[rank];
      SYNCNORM_REQUIRE(in_order, absl::StrCat("fencing: rank ", rank, " in ", Describe(key),
                                              " and in round ", round));
    }
  }
  lives_[run][key.round] = lives;
}

}  // namespace syncnorm::fuzz
