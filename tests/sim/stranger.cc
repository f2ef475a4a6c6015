#include "tests/sim/stranger.h"

#include <utility>

#include "proto/wire.h"

namespace syncnorm::sim {

StrangerCaller::StrangerCaller(Network* network, uint32_t machine, Kind kind,
                               const std::string& group, uint32_t size, Random random) {
  Line* const line = network->Open(machine, this);
  const auto send = [&](std::string bytes) {
    network->SendUp(line, std::make_shared<const std::string>(std::move(bytes)));
  };
  wire::Join join;
  join.group = group;
  join.rank = random.Below(size);
  join.world_size = size;
  join.host = "elsewhere";
  join.incarnation = "sixteen bytes...";
  switch (kind) {
    case Kind::kSilent:
      break;
    case Kind::kGarbage: {
      std::string bytes;
      for (uint32_t i = random.Below(40); i > 0; --i) {
        bytes.push_back(static_cast<char>(random.Below(256)));
      }
      send(bytes);
      break;
    }
    case Kind::kEarly:
      switch (random.Below(4)) {
        case 0: {
          wire::Contribution contribution;
          contribution.key = {1, 1, "layer0.bn", Direction::kForward, 0};
          contribution.moments = Moments::Sums(1, 1, Precision::kF64);
          send(codec_.Encode(contribution));
          break;
        }
        case 1:
          send(codec_.Encode(wire::Restored{"an answer"}));
          break;
        case 2:
          send(codec_.Encode(wire::Finish{}));
          break;
        default:
          send(codec_.EncodeFromWorker(wire::Handover{"state", true}));
          break;
      }
      break;
    case Kind::kBadJoin:
      if (random.Chance(0.5)) {
        join.world_size = 0;
      } else {
        join.group = "no such name!";
      }
      send(codec_.Encode(join));
      break;
    case Kind::kOldVersion:
      join.protocol_major = wire::kProtocolMajor + 1;
      send(codec_.Encode(join));
      break;
    case Kind::kFalseResume: {
      wire::Resume resume;
      resume.run_id = random.Next() | 1;
      resume.epoch = 1 + random.Below(20);
      resume.answered = random.Below(100);
      for (uint32_t rank = 0; rank < size; ++rank) resume.members.push_back(rank);
      join.resume = resume;
      send(codec_.Encode(join));
      break;
    }
    case Kind::kClaim:
      send(codec_.Encode(join));
      break;
  }
  // One that got what it claims would be a member, and the worker whose rank it is would wait.
  if (kind == Kind::kClaim || kind == Kind::kFalseResume || random.Chance(0.5)) {
    network->HalfClose(line);
  }
}

}  // namespace syncnorm::sim
