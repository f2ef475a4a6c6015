// StrangerCaller: somebody on the coordinator's port who is no worker of a group, or no longer:
// says nothing, garbage, or things that only members may say.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdint>
#include <string>

#include "proto/codec.h"
#include "tests/sim/network.h"
#include "tests/sim/random.h"

namespace syncnorm::sim {

class StrangerCaller final : public Caller {
 public:
  enum class Kind : uint8_t {
    kSilent,       // opens a stream and says nothing
    kGarbage,      // bytes that are no message
    kEarly,        // contributes, restores, hands over without having joined
    kBadJoin,      // joins with impossible arguments
    kOldVersion,   // speaks another protocol
    kFalseResume,  // resumes a run that never was
    kClaim,        // claims a rank
  };
  static constexpr Kind kHarmless[] = {Kind::kSilent, Kind::kGarbage, Kind::kEarly, Kind::kBadJoin,
                                       Kind::kOldVersion};
  static constexpr Kind kAny[] = {Kind::kSilent,  Kind::kGarbage,    Kind::kEarly,
                                  Kind::kBadJoin, Kind::kOldVersion, Kind::kFalseResume,
                                  Kind::kClaim};

  StrangerCaller(Network* network, uint32_t machine, Kind kind, const std::string& group,
                 uint32_t size, Random random);

  void OnOpened(Line* /*line*/) override {}
  void OnMessage(Line* /*line*/, const Bytes& /*bytes*/) override {}
  void OnClosed(Line* /*line*/, const absl::Status& /*status*/) override {}

 private:
  wire::Codec codec_;
};

}  // namespace syncnorm::sim
