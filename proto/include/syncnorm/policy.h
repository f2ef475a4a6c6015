// Policies of a group: what becomes of it when something is wrong with one member.
// All members of a group say the same.
//
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <string_view>

namespace syncnorm {

// When a member is lost.
enum class OnLoss : uint8_t {
  kFail = 0,    // every call of every member fails at once, with its name
  kShrink = 1,  // open rounds complete with the members that are left; the others go on under a
                // new epoch; workers that come late, or come back, are admitted at a boundary
  kFinish = 2,  // as kFail; but a worker that has run out of data says so (Group::Finish), and the
                // others go on without it
};

// When a member contributes a NaN or an infinity.
enum class NonFinite : uint8_t {
  kFail = 0,       // the round fails for all, with rank, layer, step, direction, row and channel
  kPropagate = 1,  // folded like any other value: the result is not finite, alike for all
  kDrop = 2,       // that contribution is left out, for all; the count says so
};

std::string_view Name(OnLoss policy);     // "fail", "shrink", "finish"
std::string_view Name(NonFinite policy);  // "fail", "propagate", "drop"

}  // namespace syncnorm
