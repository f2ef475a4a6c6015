#include "tests/sim/program.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"

namespace syncnorm::sim {

Program::Program(uint64_t seed, double empty_chance, double not_finite_chance)
    : seed_(seed), empty_chance_(empty_chance), not_finite_chance_(not_finite_chance) {
  boundary_.key.layer = "boundary";
  Random random(seed);
  const uint32_t layers = 1 + random.Below(4);
  std::vector<Place> backward;
  for (uint32_t layer = 0; layer < layers; ++layer) {
    Place place;
    place.key.layer = absl::StrCat("layer", layer, ".bn");
    place.key.direction = Direction::kForward;
    place.key.dtype = random.Chance(0.5) ? DType::kF32 : DType::kF64;
    place.precision = place.key.dtype == DType::kF64 ? Precision::kF64 : Precision::kF32;
    place.channels = 1 + random.Below(4);
    // Batch norm, or PowerNorm's sums.
    place.kind = random.Chance(0.7) ? MomentKind::kMeanM2 : MomentKind::kSums;
    place.rows = place.kind == MomentKind::kMeanM2 ? 2 : 1;
    places_.push_back(place);
    place.key.direction = Direction::kBackward;
    place.kind = MomentKind::kSums;
    place.rows = 2;
    backward.push_back(place);
  }
  if (random.Chance(0.8)) places_.insert(places_.end(), backward.rbegin(), backward.rend());
  if (random.Chance(0.2)) {
    Place plain;
    plain.key.layer = "loss";
    places_.push_back(plain);
  }
}

ReduceKey Program::Key(Position position) const {
  ReduceKey key = At(position.index).key;
  key.step = position.step;
  return key;
}

Slice Program::Contribution(Position position, uint32_t rank, uint32_t life) const {
  const Place& place = At(position.index);
  Random random(Mix(seed_, position.step, position.index, rank, life));
  Slice slice;
  Moments& moments = slice.moments;
  moments = Moments::Sums(place.rows, place.channels, place.precision);
  moments.kind = place.kind;
  moments.count = random.Chance(empty_chance_) ? 0 : 1 + random.Below(4);
  const auto channels = static_cast<size_t>(place.channels);
  const auto rounded = [&](double value) {
    return place.precision == Precision::kF32 ? static_cast<float>(value) : value;
  };
  if (place.kind == MomentKind::kMeanM2) {
    slice.samples.resize(moments.count * channels);
    for (double& sample : slice.samples) sample = 3 + 8 * random.Unit();
    for (size_t c = 0; c < channels && moments.count > 0; ++c) {
      double sum = 0, m2 = 0;
      for (uint64_t n = 0; n < moments.count; ++n) sum += slice.samples[n * channels + c];
      const double mean = sum / static_cast<double>(moments.count);
      for (uint64_t n = 0; n < moments.count; ++n) {
        const double off = slice.samples[n * channels + c] - mean;
        m2 += off * off;
      }
      moments.values[c] = mean;
      moments.values[channels + c] = rounded(m2);
    }
  } else {
    // What an empty slice says of its sums is added too.
    for (double& value : moments.values) value = rounded(16 * random.Unit() - 8);
  }
  if (not_finite_chance_ > 0 && moments.count > 0 && random.Chance(not_finite_chance_)) {
    double& value = moments.values[random.Below(static_cast<uint32_t>(channels))];
    value = random.Chance(0.5) ? std::numeric_limits<double>::quiet_NaN()
                               : std::numeric_limits<double>::infinity();
  }
  return slice;
}

}  // namespace syncnorm::sim
