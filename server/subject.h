// Subject: what a line of the log is about, as far as it is known: what its
// sentence says, for machines.  Of the keys that a line in JSON has (log.h).
//
// Thread-safety: plain values.
#pragma once

#include <syncnorm/failure.h>
#include <syncnorm/round_key.h>

#include <cstdint>
#include <string>
#include <vector>

namespace syncnorm::server {

struct Subject {
  std::string group;            // "": of none
  RoundKey key;                 // epoch 0: not known; round 0: not of a round
  std::vector<uint32_t> ranks;  // at fault, missing, or concerned; increasing
  std::string peer;             // the other end of a connection, as gRPC names it
};

inline Subject SubjectOf(const Failure& failure) {
  return {failure.group, failure.key, failure.ranks, ""};
}

}  // namespace syncnorm::server
