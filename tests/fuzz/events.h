// The events of fuzz_events, as bytes: seeds are written with them (seeds.cc).
//
//   first two bytes   the plan: world size, policies, settings of the coordinator
//   then, one byte each: low 4 bits: the event; next 2 bits: the rank; some take a choice of one
//   byte
#pragma once

#include <cstdint>

namespace syncnorm::fuzz {

enum class Event : uint8_t {
  kRun,
  kSubmit,
  kSubmitAll,  // all that can, and it runs
  kRead,
  kTake,
  kStart,
  kStartAll,  // all that are not there, and it runs
  kBreak,     // choice: bit 0: noticed
  kReturn,
  kKill,  // choice: as above
  kLeave,
  kFinish,
  kPass,         // choice: how long, in kPasses
  kCoordinator,  // choice: restarts, drains, notices what broke
  kLie,          // choice
  kStranger,     // choice
};

}  // namespace syncnorm::fuzz
