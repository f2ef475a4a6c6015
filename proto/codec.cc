#include "proto/codec.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>

#include "kernels/check.h"
#include "proto/messages.h"

namespace syncnorm::wire {
namespace {

// Equal structs give equal bytes; protobuf asks for that explicitly.
std::string Serialize(const google::protobuf::MessageLite& message) {
  std::string bytes(message.ByteSizeLong(), '\0');
  google::protobuf::io::ArrayOutputStream array(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::io::CodedOutputStream coded(&array);
  coded.SetSerializationDeterministic(true);
  message.SerializeWithCachedSizes(&coded);
  SYNCNORM_CHECK(!coded.HadError());
  return bytes;
}

absl::Status NotOne(int fields) {
  return absl::InvalidArgumentError(fields == 0
                                        ? "message with no known field set, expected exactly one"
                                        : "message with several fields set, expected exactly one");
}

// What a peer sends is told to the caller.  Protobuf would also write a line to stderr, as many of
// them as a peer likes.
absl::Status Parse(google::protobuf::io::ZeroCopyInputStream* bytes,
                   google::protobuf::MessageLite* message) {
  const google::protobuf::LogSilencer silencer;
  if (message->ParseFromZeroCopyStream(bytes)) return absl::OkStatus();
  return absl::InvalidArgumentError("bytes that are not a message of syncnorm.v1");
}

}  // namespace

struct Codec::Messages {
  v1::WorkerMessage worker;
  v1::CoordinatorMessage coordinator;

  absl::Status Read(WorkerMessage* to) const {
    const int fields = worker.has_join() + worker.has_contribution() + worker.has_leave();
    if (fields != 1) return NotOne(fields);
    if (worker.has_contribution()) {
      to->kind = WorkerMessage::Kind::kContribution;
      return From(worker.contribution(), &to->contribution);
    }
    if (worker.has_join()) {
      to->kind = WorkerMessage::Kind::kJoin;
      return From(worker.join(), &to->join);
    }
    to->kind = WorkerMessage::Kind::kLeave;
    to->leave.reason = worker.leave().reason();
    return absl::OkStatus();
  }

  absl::Status Read(CoordinatorMessage* to) const {
    const int fields = coordinator.has_joined() + coordinator.has_result() +
                       coordinator.has_failure() + coordinator.has_draining();
    if (fields != 1) return NotOne(fields);
    if (coordinator.has_result()) {
      to->kind = CoordinatorMessage::Kind::kResult;
      return From(coordinator.result(), &to->result);
    }
    if (coordinator.has_joined()) {
      to->kind = CoordinatorMessage::Kind::kJoined;
      return From(coordinator.joined(), &to->joined);
    }
    if (coordinator.has_failure()) {
      to->kind = CoordinatorMessage::Kind::kFailure;
      return From(coordinator.failure(), &to->failure);
    }
    to->kind = CoordinatorMessage::Kind::kDraining;
    to->draining.text = coordinator.draining().text();
    return absl::OkStatus();
  }
};

Codec::Codec() : messages_(std::make_unique<Messages>()) {}
Codec::~Codec() = default;
Codec::Codec(Codec&&) noexcept = default;
Codec& Codec::operator=(Codec&&) noexcept = default;

absl::Status Codec::Decode(std::string_view bytes, WorkerMessage* message) {
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  return Decode(&stream, message);
}

absl::Status Codec::Decode(google::protobuf::io::ZeroCopyInputStream* bytes,
                           WorkerMessage* message) {
  if (absl::Status s = Parse(bytes, &messages_->worker); !s.ok()) return s;
  return messages_->Read(message);
}

absl::Status Codec::Decode(std::string_view bytes, CoordinatorMessage* message) {
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  return Decode(&stream, message);
}

absl::Status Codec::Decode(google::protobuf::io::ZeroCopyInputStream* bytes,
                           CoordinatorMessage* message) {
  if (absl::Status s = Parse(bytes, &messages_->coordinator); !s.ok()) return s;
  return messages_->Read(message);
}

std::string Codec::Encode(const Join& join) {
  messages_->worker.Clear();
  To(join, messages_->worker.mutable_join());
  return Serialize(messages_->worker);
}

std::string Codec::Encode(const Contribution& contribution) {
  messages_->worker.Clear();
  To(contribution, messages_->worker.mutable_contribution());
  return Serialize(messages_->worker);
}

std::string Codec::Encode(const Leave& leave) {
  messages_->worker.Clear();
  To(leave, messages_->worker.mutable_leave());
  return Serialize(messages_->worker);
}

std::string Codec::Encode(const Joined& joined) {
  messages_->coordinator.Clear();
  To(joined, messages_->coordinator.mutable_joined());
  return Serialize(messages_->coordinator);
}

std::string Codec::Encode(const Result& result) {
  messages_->coordinator.Clear();
  To(result, messages_->coordinator.mutable_result());
  return Serialize(messages_->coordinator);
}

std::string Codec::Encode(const Failure& failure) {
  messages_->coordinator.Clear();
  To(failure, messages_->coordinator.mutable_failure());
  return Serialize(messages_->coordinator);
}

std::string Codec::Encode(const Draining& draining) {
  messages_->coordinator.Clear();
  To(draining, messages_->coordinator.mutable_draining());
  return Serialize(messages_->coordinator);
}

}  // namespace syncnorm::wire
