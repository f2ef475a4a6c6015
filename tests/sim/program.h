// Program: what the trainers of a group do, and what each contributes where: all
// of it a function of the group's seed, so that anybody can compute it again.
//
//   a step:  forward layer 0 .. n-1, backward layer n-1 .. 0, then maybe a plain reduction
//
// A worker's samples depend on its life as well (how often it was started), so that what
// a superseded process contributes is never what its successor does.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/moments.h>
#include <syncnorm/reducer.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/random.h"

namespace syncnorm::sim {

// One reduction of a step.
struct Place {
  ReduceKey key;  // without the step
  MomentKind kind = MomentKind::kSums;
  Precision precision = Precision::kF64;
  int64_t rows = 1;
  int64_t channels = 1;
};

// Where a trainer is.
struct Position {
  uint64_t step = 0;
  uint32_t index = 0;  // within the step
  friend bool operator==(const Position&, const Position&) = default;
};

struct Slice {
  Moments moments;              // as they travel
  std::vector<double> samples;  // of a mean_m2: count x channels
};

class Program {
 public:
  // The index of the round between two steps.
  static constexpr uint32_t kBoundary = UINT32_MAX;

  Program(uint64_t seed, double empty_chance, double not_finite_chance);

  uint32_t per_step() const { return static_cast<uint32_t>(places_.size()); }
  const Place& At(uint32_t index) const { return index == kBoundary ? boundary_ : places_[index]; }
  Position After(Position position) const {
    return position.index + 1 < per_step() ? Position{position.step, position.index + 1}
                                           : Position{position.step + 1, 0};
  }

  ReduceKey Key(Position position) const;
  Slice Contribution(Position position, uint32_t rank, uint32_t life) const;

 private:
  const uint64_t seed_;
  const double empty_chance_;
  const double not_finite_chance_;
  std::vector<Place> places_;
  Place boundary_;
};

}  // namespace syncnorm::sim
