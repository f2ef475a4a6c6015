#include "server/round.h"

#include <limits>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/check.h"

namespace syncnorm::server {
namespace {

// The values as bytes: several times faster than hashing doubles one by one, and a -0.0 for a 0.0
// is another contribution.  What the fingerprint covers is compared there.
uint64_t Digest(const wire::Contribution& contribution) {
  const std::vector<double>& values = contribution.moments.values;
  const absl::string_view bytes(reinterpret_cast<const char*>(values.data()),
                                values.size() * sizeof(double));
  return absl::HashOf(contribution.moments.count, bytes);
}

}  // namespace

Round::Round(const FoldOrder& order, const std::vector<bool>& expected,
             const wire::Contribution& first, uint64_t epoch, absl::Time opened)
    : key_(first.key),
      fingerprint_(first),
      opened_(opened),
      expected_(expected),
      contributed_(order.members()),
      digests_(order.members()),
      aggregator_(order) {
  key_.epoch = epoch;
  for (uint32_t rank = 0; rank < order.members(); ++rank) {
    if (expected_[rank]) {
      ++missing_;
    } else {
      aggregator_.Skip(rank);
    }
  }
}

Round::Round(const FoldOrder& order, RoundKey key, State ended, Bytes answer)
    : state_(ended),
      key_(key),
      fingerprint_(wire::Contribution{.key = std::move(key)}),
      opened_(absl::InfinitePast()),
      restored_(true),
      expected_(order.members()),
      contributed_(order.members()),
      digests_(order.members()),
      aggregator_(order),
      answer_(std::move(answer)) {
  SYNCNORM_CHECK(!open());
  aggregator_.Clear();
}

Round::Added Round::Check(uint32_t rank, const wire::Contribution& contribution) const {
  SYNCNORM_CHECK(open() && expected_[rank]);
  if (contributed_[rank]) {
    return Repeats(rank, contribution) ? Added::kRepeat : Added::kChanged;
  }
  if (!fingerprint_.Matches(contribution)) return Added::kMismatch;
  if (contribution.moments.count > std::numeric_limits<uint64_t>::max() - count_) {
    return Added::kOverflow;
  }
  return Added::kWaiting;
}

Round::Added Round::Count(uint32_t rank, const wire::Contribution& contribution) {
  contributed_[rank] = true;
  digests_[rank] = Digest(contribution);
  return --missing_ == 0 ? Added::kLast : Added::kWaiting;
}

Round::Added Round::Add(uint32_t rank, wire::Contribution* contribution) {
  if (const Added why = Check(rank, *contribution); why != Added::kWaiting) return why;
  const Added added = Count(rank, *contribution);
  count_ += contribution->moments.count;
  aggregator_.Add(rank, &contribution->moments);
  return added;
}

Round::Added Round::AddWithoutValues(uint32_t rank, const wire::Contribution& contribution) {
  if (const Added why = Check(rank, contribution); why != Added::kWaiting) return why;
  const Added added = Count(rank, contribution);
  aggregator_.Skip(rank);
  return added;
}

bool Round::Excuse(uint32_t rank) {
  SYNCNORM_CHECK(open());
  if (!expected_[rank] || contributed_[rank]) return false;
  expected_[rank] = false;
  aggregator_.Skip(rank);
  return --missing_ == 0;
}

Moments Round::Total() {
  Moments total = aggregator_.Take();
  if (!total.values.empty()) return total;
  total = Moments::Sums(fingerprint_.rows, fingerprint_.channels, fingerprint_.precision);
  total.kind = fingerprint_.kind;
  return total;
}

bool Round::Repeats(uint32_t rank, const wire::Contribution& contribution) const {
  if (restored_) {
    return fingerprint_.SamePlace(Fingerprint(contribution));
  }
  return contributed_[rank] && fingerprint_.Matches(contribution) &&
         digests_[rank] == Digest(contribution);
}

std::string Round::Compare(uint32_t rank, const wire::Contribution& contribution) const {
  const Fingerprint sent(contribution);
  if (!sent.SamePlace(fingerprint_)) return Place(sent.layer, sent.direction, sent.step);
  if (!fingerprint_.Matches(contribution)) {
    return absl::StrCat(Shape(sent, fingerprint_), ", first was ", Shape(fingerprint_, sent));
  }
  return absl::StrCat("digest ", absl::Hex(Digest(contribution)), ", first was ",
                      absl::Hex(digests_[rank]));
}

void Round::End(State state, Bytes answer) {
  SYNCNORM_CHECK(open());
  state_ = state;
  answer_ = std::move(answer);
  aggregator_.Clear();
}

uint64_t Round::kept_bytes() const {
  return sizeof(Round) + 2 * key_.layer.size() + digests_.size() * sizeof(uint64_t) +
         answer_->size();
}

std::vector<uint32_t> Round::contributed() const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < contributed_.size(); ++rank) {
    if (contributed_[rank]) ranks.push_back(rank);
  }
  return ranks;
}

std::vector<uint32_t> Round::missing() const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < expected_.size(); ++rank) {
    if (expected_[rank] && !contributed_[rank]) ranks.push_back(rank);
  }
  return ranks;
}

}  // namespace syncnorm::server
