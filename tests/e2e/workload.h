// What a chaos worker sends: moments that are a pure function of (seed, rank, layer,
// step, direction), so that whoever reads a history can compute them again.
// tests/e2e/reference.py is the same in numpy, bit for bit; reference_test.py holds the
// two against each other.
//
//   forward    mean_m2      even layers travel in f64, odd ones in f32
//   backward   two sums     the same
//
// One contribution in sixteen stands for an empty slice.
//
// Thread-safety: plain functions.
#pragma once

#include <syncnorm/moments.h>
#include <syncnorm/reducer.h>

#include <cstdint>

namespace syncnorm::e2e {

struct Workload {
  uint64_t seed = 1;
  int64_t channels = 16;
};

// One operation of a trainer.
struct Operation {
  int layer = 0;
  Direction direction = Direction::kForward;
  uint64_t step = 0;
};

// As it travels: rounded to the wire's precision.
Moments MomentsOf(const Workload& workload, int rank, const Operation& operation);

// "layer3", with direction, step and dtype.
ReduceKey KeyOf(const Operation& operation);

// 64 bits that tell moments apart: count and values, bit by bit, in their places.
uint64_t Digest(const Moments& moments);

// The finaliser of splitmix64, from which all of the above is made.
uint64_t Mix(uint64_t x);

}  // namespace syncnorm::e2e
