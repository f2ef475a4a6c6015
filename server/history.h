// History: the names of the latest complete rounds of a group, so that a
// mismatch can be told as what it most likely is, a skipped layer.
//
// Bounded: kRounds entries, whose memory is reused.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/round_key.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/fingerprint.h"

namespace syncnorm::server {

class History {
 public:
  // ResNet-152 has 155 norms, hence 310 rounds a step: a whole step of most models.
  // About 100 bytes each.
  static constexpr size_t kRounds = 512;

  void Add(const RoundKey& key);
  // The latest; null if none.
  const RoundKey* last() const;
  // Whether `two`'s layer came right after `one`'s in one of the rounds (steps aside).
  bool Follows(const Fingerprint& one, const Fingerprint& two) const;
  // Null if not complete, or forgotten.
  const RoundKey* Find(uint64_t round) const;

 private:
  const RoundKey& At(size_t age) const {  // 0: the latest
    return entries_[(next_ + entries_.size() - 1 - age) % entries_.size()];
  }

  std::vector<RoundKey> entries_;  // a ring once full
  size_t next_ = 0;                // where the next goes, once full
};

}  // namespace syncnorm::server
