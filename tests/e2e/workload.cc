#include "tests/e2e/workload.h"

#include <bit>

#include "absl/strings/str_cat.h"

namespace syncnorm::e2e {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;  // 2^64 / the golden ratio: splitmix64's step

// Uniform in [0, 1), a multiple of 2^-53: every operation on it below is exact.
double Uniform(uint64_t state, uint64_t index) {
  return static_cast<double>(Mix(state + (index + 1) * kGolden) >> 11) * 0x1p-53;
}

}  // namespace

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

Moments MomentsOf(const Workload& workload, int rank, const Operation& operation) {
  uint64_t state = Mix(workload.seed + kGolden);
  for (const uint64_t part : {static_cast<uint64_t>(rank), static_cast<uint64_t>(operation.layer),
                              operation.step, static_cast<uint64_t>(operation.direction)}) {
    state = Mix(state + part + kGolden);
  }
  const Precision precision = operation.layer % 2 == 0 ? Precision::kF64 : Precision::kF32;
  const int64_t channels = workload.channels;
  const bool empty = state % 16 == 0;
  const uint64_t count = empty ? 0 : 1 + (state >> 4) % 1000;

  if (operation.direction == Direction::kForward) {
    Moments moments = Moments::MeanM2(channels, precision);
    if (empty) return moments;  // zeros
    moments.count = count;
    for (int64_t c = 0; c < channels; ++c) {
      moments.row(0)[c] = (Uniform(state, c) - 0.5) * 16;
      moments.row(1)[c] = Uniform(state, channels + c) * 1024;
    }
    RoundToWire(&moments);
    return moments;
  }
  Moments moments = Moments::Sums(2, channels, precision);
  moments.count = count;
  for (int64_t i = 0; i < 2 * channels; ++i) {
    moments.values[i] = empty ? 0 : (Uniform(state, i) - 0.5) * 1024;
  }
  RoundToWire(&moments);
  return moments;
}

ReduceKey KeyOf(const Operation& operation) {
  ReduceKey key;
  key.layer = absl::StrCat("layer", operation.layer);
  key.direction = operation.direction;
  key.step = operation.step;
  key.dtype = operation.layer % 2 == 0 ? DType::kF64 : DType::kF32;
  return key;
}

uint64_t Digest(const Moments& moments) {
  uint64_t digest = Mix(moments.count + kGolden);
  uint64_t place = 0;
  for (const double value : moments.values) {
    digest ^= Mix(std::bit_cast<uint64_t>(value) + ++place * kGolden);
  }
  return digest;
}

}  // namespace syncnorm::e2e
