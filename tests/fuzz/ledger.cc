#include "tests/fuzz/ledger.h"

#include <bit>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "tests/fuzz/require.h"

namespace syncnorm::fuzz {

void Ledger::Add(uint64_t run, uint32_t rank, const wire::Result& result,
                 const std::string& bytes) {
  const RoundKey& key = result.key;
  auto& results = runs_[run];
  const auto [it, added] = results.try_emplace({key.round, key.epoch});
  Entry& entry = it->second;
  SYNCNORM_REQUIRE(added || entry.bytes == bytes, absl::StrCat("agreement on ", Describe(key)));
  entry.known |= 1u << rank;
  if (!added) return;
  entry.bytes = bytes;
  entry.lives = Check(result);
  for (const auto& [place, other] : results) {
    for (uint32_t each = 0; each < world_; ++each) {
      const int mine = entry.lives[each];
      const int others = other.lives[each];
      if (mine == kNobody || others == kNobody) continue;
      SYNCNORM_REQUIRE(place.first < key.round ? others <= mine : mine <= others,
                       absl::StrCat("fencing: rank ", each, " in ", Describe(key), " and in round ",
                                    place.first));
    }
  }
}

Ledger::Lives Ledger::Check(const wire::Result& result) const {
  const uint64_t marks = result.moments.count;
  const double sum = result.moments.values[0];
  if (std::isfinite(sum)) {
    SYNCNORM_REQUIRE(sum == static_cast<double>(marks),
                     absl::StrCat("values and count of ", Describe(result.key),
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
                     absl::StrCat("at most once: rank ", rank, " in ", Describe(result.key)));
    SYNCNORM_REQUIRE(
        !complete_ || of_rank != 0,
        absl::StrCat("validity: rank ", rank, " is missing in ", Describe(result.key)));
  }
  return lives;
}

void Ledger::Died(uint32_t rank) {
  for (auto& [run, results] : runs_) {
    for (auto it = results.begin(); it != results.end();) {
      Entry& entry = it->second;
      entry.known &= ~(1u << rank);
      it = entry.known == 0 && !entry.of_this_life ? results.erase(it) : std::next(it);
    }
  }
}

void Ledger::CoordinatorRestarted() {
  for (auto& [run, results] : runs_) {
    for (auto it = results.begin(); it != results.end();) {
      it->second.of_this_life = false;
      it = it->second.known == 0 ? results.erase(it) : std::next(it);
    }
  }
}

}  // namespace syncnorm::fuzz
