// The messages of the wire as plain structs: what the coordinator's core and
// the client's session speak.  codec.h turns them into bytes and back;
// syncnorm.proto says what each field means.
//
// Thread-safety: plain values.
#pragma once

#include <syncnorm/failure.h>
#include <syncnorm/moments.h>
#include <syncnorm/policy.h>
#include <syncnorm/round_key.h>
#include <syncnorm/tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace syncnorm::wire {

constexpr uint32_t kProtocolMajor = 1;
constexpr uint32_t kProtocolMinor = 2;

// Bounds that the wire itself has; a coordinator may be stricter.
constexpr size_t kMaxGroupNameBytes = 128;
constexpr size_t kMaxHostNameBytes = 255;
constexpr size_t kMaxJobBytes = 255;
constexpr size_t kIncarnationBytes = 16;
constexpr uint32_t kMaxWorldSize = 4096;

// How far a member is whose stream broke.
struct Resume {
  uint64_t run_id = 0;
  uint64_t coordinator_id = 0;
  uint64_t epoch = 0;
  uint64_t answered = 0;
  uint32_t kept = 0;
  std::vector<uint32_t> members;
  bool finished = false;
  uint64_t first_round = 1;
  std::vector<uint64_t> tickets;  // by rank; empty: not told
};

struct Join {
  uint32_t protocol_major = kProtocolMajor;
  uint32_t protocol_minor = kProtocolMinor;
  std::string group;
  uint32_t rank = 0;
  uint32_t world_size = 0;
  std::string host;
  uint32_t pid = 0;
  std::string incarnation;
  std::string job;
  absl::Duration round_timeout = absl::ZeroDuration();  // zero: the coordinator's default
  absl::Duration join_timeout = absl::ZeroDuration();
  OnLoss on_loss = OnLoss::kFail;
  NonFinite non_finite = NonFinite::kFail;
  std::optional<Resume> resume;
  uint64_t ticket = 0;
};

struct Limits {
  uint64_t max_values = 0;
  uint32_t max_layer_name_bytes = 0;
  uint32_t kept_results = 0;
  uint64_t max_message_bytes = 0;
};

struct Joined {
  uint32_t protocol_major = kProtocolMajor;
  uint32_t protocol_minor = kProtocolMinor;
  uint64_t epoch = 0;
  uint32_t world_size = 0;
  std::vector<std::string> hosts;
  Limits limits;
  absl::Duration round_timeout = absl::ZeroDuration();
  uint64_t coordinator_id = 0;
  uint64_t run_id = 0;
  uint64_t first_round = 0;
  std::vector<uint32_t> members;
  uint64_t epoch_first_round = 0;
  std::vector<uint64_t> tickets;  // by rank; empty: not told
};

struct Contribution {
  RoundKey key;
  std::optional<DType> dtype;  // of the tensor; none for a plain reduction
  Moments moments;
  uint64_t answered = 0;
  bool boundary = false;
};

struct Result {
  RoundKey key;
  Moments moments;
  uint64_t settled = 0;
};

struct Restored {
  std::string answer;  // bytes of a CoordinatorMessage
};

struct EpochChanged {
  uint64_t epoch = 0;
  uint64_t first_round = 0;
  std::vector<uint32_t> members;
  std::vector<std::string> hosts;
  std::string text;
  std::vector<uint32_t> admitted;
  uint32_t provider = 0;
  bool regrouped = false;
};

struct Handover {
  std::string chunk;
  bool last = false;
  std::string failure;  // empty: none
};

struct Finish {};

struct Draining {
  std::string text;
};

struct Leave {
  std::string reason;
};

// One message of a worker.  A struct rather than a variant, so that decoding
// into the same object again reuses its memory.
struct WorkerMessage {
  enum class Kind : uint8_t { kJoin, kContribution, kLeave, kRestored, kFinish, kHandover };
  Kind kind = Kind::kLeave;
  Join join;
  Contribution contribution;
  Leave leave;
  Restored restored;
  Handover handover;
};

struct CoordinatorMessage {
  enum class Kind : uint8_t { kJoined, kResult, kFailure, kDraining, kEpochChanged, kHandover };
  Kind kind = Kind::kDraining;
  Joined joined;
  Result result;
  Failure failure;
  Draining draining;
  EpochChanged epoch_changed;
  Handover handover;
};

}  // namespace syncnorm::wire
