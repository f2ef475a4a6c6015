#include "proto/codec.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>

#include <optional>

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

// What the only field of a message holds, if that is field `number`, a message, and nothing comes
// before or after it; null otherwise.
std::optional<std::string_view> OnlyField(int number, std::string_view bytes) {
  google::protobuf::io::CodedInputStream stream(reinterpret_cast<const uint8_t*>(bytes.data()),
                                                static_cast<int>(bytes.size()));
  constexpr int kLengthDelimited = 2;
  uint32_t length = 0;
  if (stream.ReadTagNoLastTag() != static_cast<uint32_t>(number << 3 | kLengthDelimited) ||
      !stream.ReadVarint32(&length)) {
    return std::nullopt;
  }
  const size_t start = static_cast<size_t>(stream.CurrentPosition());
  if (length != bytes.size() - start) return std::nullopt;
  return bytes.substr(start);
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

// Clear() of a message gives back the memory of the messages in it.  The two that come and go in
// every round are therefore kept by themselves, and their memory with them.
struct Codec::Messages {
  v1::WorkerMessage worker;
  v1::CoordinatorMessage coordinator;
  v1::Contribution contribution_in;
  v1::Result result_in;
  // Only ever a contribution, and a result: no need to clear them, every field is written.
  v1::WorkerMessage contribution_out;
  v1::CoordinatorMessage result_out;

  absl::Status Read(WorkerMessage* to) const {
    const int fields = worker.has_join() + worker.has_contribution() + worker.has_leave() +
                       worker.has_restored() + worker.has_finish() + worker.has_handover();
    if (fields != 1) return NotOne(fields);
    if (worker.has_contribution()) {
      to->kind = WorkerMessage::Kind::kContribution;
      return From(worker.contribution(), &to->contribution);
    }
    if (worker.has_join()) {
      to->kind = WorkerMessage::Kind::kJoin;
      return From(worker.join(), &to->join);
    }
    if (worker.has_restored()) {
      to->kind = WorkerMessage::Kind::kRestored;
      to->restored.answer = worker.restored().answer();
    } else if (worker.has_handover()) {
      to->kind = WorkerMessage::Kind::kHandover;
      to->handover.chunk = worker.handover().chunk();
      to->handover.last = worker.handover().last();
      to->handover.failure = worker.handover().failure();
    } else if (worker.has_finish()) {
      to->kind = WorkerMessage::Kind::kFinish;
    } else {
      to->kind = WorkerMessage::Kind::kLeave;
      to->leave.reason = worker.leave().reason();
    }
    return absl::OkStatus();
  }

  absl::Status Read(CoordinatorMessage* to) const {
    const int fields = coordinator.has_joined() + coordinator.has_result() +
                       coordinator.has_failure() + coordinator.has_draining() +
                       coordinator.has_epoch_changed() + coordinator.has_handover();
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
    if (coordinator.has_epoch_changed()) {
      to->kind = CoordinatorMessage::Kind::kEpochChanged;
      return From(coordinator.epoch_changed(), &to->epoch_changed);
    }
    if (coordinator.has_handover()) {
      to->kind = CoordinatorMessage::Kind::kHandover;
      to->handover.chunk = coordinator.handover().chunk();
      to->handover.last = coordinator.handover().last();
      to->handover.failure = coordinator.handover().failure();
      return absl::OkStatus();
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
  if (const auto only = OnlyField(v1::WorkerMessage::kContributionFieldNumber, bytes)) {
    google::protobuf::io::ArrayInputStream stream(only->data(), static_cast<int>(only->size()));
    v1::Contribution& contribution = messages_->contribution_in;
    if (absl::Status s = Parse(&stream, &contribution); !s.ok()) return s;
    message->kind = WorkerMessage::Kind::kContribution;
    return From(contribution, &message->contribution);
  }
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  return Decode(&stream, message);
}

absl::Status Codec::Decode(google::protobuf::io::ZeroCopyInputStream* bytes,
                           WorkerMessage* message) {
  if (absl::Status s = Parse(bytes, &messages_->worker); !s.ok()) return s;
  return messages_->Read(message);
}

absl::Status Codec::Decode(std::string_view bytes, CoordinatorMessage* message) {
  if (const auto only = OnlyField(v1::CoordinatorMessage::kResultFieldNumber, bytes)) {
    google::protobuf::io::ArrayInputStream stream(only->data(), static_cast<int>(only->size()));
    v1::Result& result = messages_->result_in;
    if (absl::Status s = Parse(&stream, &result); !s.ok()) return s;
    message->kind = CoordinatorMessage::Kind::kResult;
    return From(result, &message->result);
  }
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
  To(contribution, messages_->contribution_out.mutable_contribution());
  return Serialize(messages_->contribution_out);
}

std::string Codec::Encode(const Leave& leave) {
  messages_->worker.Clear();
  To(leave, messages_->worker.mutable_leave());
  return Serialize(messages_->worker);
}

std::string Codec::Encode(const Restored& restored) {
  messages_->worker.Clear();
  To(restored, messages_->worker.mutable_restored());
  return Serialize(messages_->worker);
}

std::string Codec::Encode(const Finish&) {
  messages_->worker.Clear();
  messages_->worker.mutable_finish();
  return Serialize(messages_->worker);
}

std::string Codec::EncodeFromWorker(const Handover& handover) {
  messages_->worker.Clear();
  To(handover, messages_->worker.mutable_handover());
  return Serialize(messages_->worker);
}

std::string Codec::Encode(const Joined& joined) {
  messages_->coordinator.Clear();
  To(joined, messages_->coordinator.mutable_joined());
  return Serialize(messages_->coordinator);
}

std::string Codec::Encode(const Result& result) {
  To(result, messages_->result_out.mutable_result());
  return Serialize(messages_->result_out);
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

std::string Codec::Encode(const EpochChanged& changed) {
  messages_->coordinator.Clear();
  To(changed, messages_->coordinator.mutable_epoch_changed());
  return Serialize(messages_->coordinator);
}

std::string Codec::EncodeToWorker(const Handover& handover) {
  messages_->coordinator.Clear();
  To(handover, messages_->coordinator.mutable_handover());
  return Serialize(messages_->coordinator);
}

}  // namespace syncnorm::wire
