#include "server/history.h"

namespace syncnorm::server {

void History::Add(const RoundKey& key) {
  if (entries_.size() < kRounds) {
    entries_.push_back(key);
    return;
  }
  entries_[next_] = key;  // reuses the name's memory
  next_ = (next_ + 1) % kRounds;
}

const RoundKey* History::last() const { return entries_.empty() ? nullptr : &At(0); }

const RoundKey* History::Find(uint64_t round) const {
  for (size_t age = 0; age < entries_.size(); ++age) {
    if (At(age).round == round) return &At(age);
    if (At(age).round < round) break;
  }
  return nullptr;
}

bool History::Follows(const Fingerprint& one, const Fingerprint& two) const {
  for (size_t age = 0; age + 1 < entries_.size(); ++age) {
    const RoundKey& later = At(age);
    const RoundKey& earlier = At(age + 1);
    if (later.round == earlier.round + 1 && later.layer == two.layer &&
        later.direction == two.direction && earlier.layer == one.layer &&
        earlier.direction == one.direction) {
      return true;
    }
  }
  return false;
}

}  // namespace syncnorm::server
