// Names a round: what the wire, the coordinator, the client and every error
// text call one reduction.
//
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace syncnorm {

enum class Direction : uint8_t { kForward = 1, kBackward = 2, kNone = 3 };

// "forward", "backward", "reduce".
std::string_view Name(Direction direction);

struct RoundKey {
  uint64_t epoch = 0;
  uint64_t round = 0;  // 1, 2, 3, ... within the epoch; 0: not a round (a membership's matters)
  std::string layer;
  Direction direction = Direction::kNone;
  uint64_t step = 0;

  friend bool operator==(const RoundKey&, const RoundKey&) = default;
};

// "round 41 layer conv1.bn (forward, step 17)".
std::string Describe(const RoundKey& key);

}  // namespace syncnorm
