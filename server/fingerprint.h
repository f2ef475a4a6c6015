// Fingerprint: what all contributions to one round must have in common.  The
// first contribution sets it; the others are held against it.
//
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "proto/wire.h"

namespace syncnorm::server {

struct Fingerprint {
  std::string layer;
  Direction direction = Direction::kNone;
  uint64_t step = 0;
  MomentKind kind = MomentKind::kSums;
  Precision precision = Precision::kF64;
  std::optional<DType> dtype;
  int64_t rows = 0;
  int64_t channels = 0;
  bool boundary = false;

  explicit Fingerprint(const wire::Contribution& contribution);
  // Without building a second fingerprint: once per contribution.
  bool Matches(const wire::Contribution& contribution) const;
  // Whether the same layer, direction and step.
  bool SamePlace(const Fingerprint& other) const;
};

// "layer4.bn (forward, step 17)".
std::string Place(const std::string& layer, Direction direction, uint64_t step);

// The fields in which `one` differs from `other`, with the values of `one`:
// "channels=128 dtype=f16".  Layer, direction and step are not among them.
std::string Shape(const Fingerprint& one, const Fingerprint& other);

}  // namespace syncnorm::server
