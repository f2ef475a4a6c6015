#include "server/round.h"

#include <limits>
#include <utility>

#include "absl/hash/hash.h"
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

Round::Round(const FoldOrder& order, const wire::Contribution& first, absl::Time opened)
    : key_(first.key),
      fingerprint_(first),
      opened_(opened),
      missing_(order.members()),
      contributed_(order.members()),
      digests_(order.members()),
      aggregator_(order) {}

Round::Added Round::Add(uint32_t rank, wire::Contribution* contribution) {
  SYNCNORM_CHECK(open());
  if (contributed_[rank]) {
    return Repeats(rank, *contribution) ? Added::kRepeat : Added::kChanged;
  }
  if (!fingerprint_.Matches(*contribution)) return Added::kMismatch;
  if (contribution->moments.count > std::numeric_limits<uint64_t>::max() - count_) {
    return Added::kOverflow;
  }
  contributed_[rank] = true;
  digests_[rank] = Digest(*contribution);
  count_ += contribution->moments.count;
  aggregator_.Add(rank, &contribution->moments);
  return --missing_ == 0 ? Added::kLast : Added::kWaiting;
}

bool Round::Repeats(uint32_t rank, const wire::Contribution& contribution) const {
  return contributed_[rank] && fingerprint_.Matches(contribution) &&
         digests_[rank] == Digest(contribution);
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

std::vector<uint32_t> Round::Where(bool contributed) const {
  std::vector<uint32_t> ranks;
  for (uint32_t rank = 0; rank < contributed_.size(); ++rank) {
    if (contributed_[rank] == contributed) ranks.push_back(rank);
  }
  return ranks;
}

}  // namespace syncnorm::server
