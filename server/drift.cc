#include "server/drift.h"

#include <algorithm>
#include <cmath>

namespace syncnorm::server {
namespace {

bool Positive(double value) { return value > 0 && std::isfinite(value); }

// Root mean squares are made of these.
struct Squares {
  double sum = 0;
  double number = 0;

  void Add(double value) {
    sum += value * value;
    number += 1;
  }
  void Add(const Squares& other) {
    sum += other.sum;
    number += other.number;
  }
  double Root() const { return number > 0 ? std::sqrt(sum / number) : 0; }
};

// Whether it stands for statistics of a layer's input: moments, or PowerNorm's sums of squares.
bool OfInput(const wire::Contribution& contribution) {
  if (contribution.key.direction != Direction::kForward || !contribution.dtype) return false;
  return contribution.moments.kind == MomentKind::kMeanM2 || contribution.moments.rows == 1;
}

}  // namespace

bool Drift::Wants(absl::Time now, const wire::Contribution& first) {
  if (now < next_ || round_ != 0 || !OfInput(first)) return false;
  const auto it = layers_.find(first.key.layer);
  if (it == layers_.end()) return layers_.size() < max_layers_;
  return now - it->second.measured >= kAgain;
}

void Drift::Begin(absl::Time now, uint64_t round) {
  next_ = now + kBetween;
  round_ = round;
  kept_ = 0;
}

void Drift::Keep(uint32_t rank, const Moments& moments) {
  if (kept_ == own_.size()) own_.emplace_back();
  Own& own = own_[kept_++];
  own.rank = rank;
  own.count = static_cast<double>(moments.count);
  own.values.clear();
  const int64_t channels = std::min(moments.channels, kChannels);
  for (int64_t row = 0; row < moments.rows; ++row) {
    const auto values = moments.row(row).subspan(0, channels);
    own.values.insert(own.values.end(), values.begin(), values.end());
  }
}

void Drift::Measure(absl::Time now, const std::string& layer, const Moments& result) {
  round_ = 0;
  const bool has_mean = result.kind == MomentKind::kMeanM2;
  const int64_t channels = std::min(result.channels, kChannels);
  const auto count = static_cast<double>(result.count);
  Entry entry;
  entry.measured = now;
  Squares shifts, spreads;
  double farthest = -1;
  for (size_t i = 0; i < kept_; ++i) {
    const Own& own = own_[i];
    if (own.count == 0) continue;
    Squares shift, spread;
    for (int64_t c = 0; c < channels; ++c) {
      const double variance = result.row(has_mean ? 1 : 0)[c] / count;
      if (!Positive(variance)) continue;
      const double own_variance = own.values[has_mean ? channels + c : c] / own.count;
      if (has_mean) {
        const double away = (own.values[c] - result.row(0)[c]) / std::sqrt(variance);
        if (std::isfinite(away)) shift.Add(away);
      }
      if (Positive(own_variance)) spread.Add(0.5 * std::log(own_variance / variance));
    }
    const double away = std::hypot(shift.Root(), spread.Root());
    if (away > farthest) {
      farthest = away;
      entry.rank = own.rank;
    }
    shifts.Add(shift);
    spreads.Add(spread);
  }
  if (has_mean) entry.shift = shifts.Root();
  entry.spread = spreads.Root();
  layers_.insert_or_assign(layer, entry);
}

const Drift::Entry* Drift::Find(const std::string& layer) const {
  const auto it = layers_.find(layer);
  return it == layers_.end() ? nullptr : &it->second;
}

}  // namespace syncnorm::server
