#include <syncnorm/round_key.h>

#include "absl/strings/str_cat.h"

namespace syncnorm {

std::string_view Name(Direction direction) {
  switch (direction) {
    case Direction::kForward:
      return "forward";
    case Direction::kBackward:
      return "backward";
    case Direction::kNone:
      return "reduce";
  }
  return "unknown";
}

std::string Describe(const RoundKey& key) {
  const std::string_view direction = Name(key.direction);
  return absl::StrCat("round ", key.round, " layer ", key.layer, " (",
                      absl::string_view(direction.data(), direction.size()), ", step ", key.step,
                      ")");
}

}  // namespace syncnorm
