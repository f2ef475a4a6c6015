// Codec: the only bridge between the protobuf messages and wire.h.
//
// Decoding refuses, with kInvalidArgument and a text that says what was wrong
// and what was expected: bytes that are not the message; no field or two fields
// set; unknown enum values; rows x channels that do not match the number of values
// (checked before anything is allocated); a round's key without round or
// layer; a mean_m2 with rows != 2, with a negative M2, or with values other than 0 under a count
// of 0; names longer than wire.h allows.  NaN and infinities are carried as they are.
//
// Encoding is deterministic: equal structs give equal bytes.
//
// Thread-safety: a Codec is thread-compatible; it keeps message objects whose
// memory it reuses, so use one per thread (or per stream).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "proto/wire.h"

namespace google::protobuf::io {
class ZeroCopyInputStream;
}

namespace syncnorm::wire {

class Codec {
 public:
  Codec();
  ~Codec();
  Codec(Codec&&) noexcept;
  Codec& operator=(Codec&&) noexcept;

  absl::Status Decode(std::string_view bytes, WorkerMessage* message);
  absl::Status Decode(google::protobuf::io::ZeroCopyInputStream* bytes, WorkerMessage* message);
  absl::Status Decode(std::string_view bytes, CoordinatorMessage* message);
  absl::Status Decode(google::protobuf::io::ZeroCopyInputStream* bytes,
                      CoordinatorMessage* message);

  // Each gives the bytes of a WorkerMessage or a CoordinatorMessage.
  std::string Encode(const Join& join);
  std::string Encode(const Contribution& contribution);
  std::string Encode(const Leave& leave);
  std::string Encode(const Restored& restored);
  std::string Encode(const Finish& finish);
  std::string EncodeFromWorker(const Handover& handover);
  std::string Encode(const Joined& joined);
  std::string Encode(const Result& result);
  std::string Encode(const Failure& failure);
  std::string Encode(const Draining& draining);
  std::string Encode(const EpochChanged& changed);
  std::string EncodeToWorker(const Handover& handover);

 private:
  struct Messages;
  std::unique_ptr<Messages> messages_;
};

}  // namespace syncnorm::wire
