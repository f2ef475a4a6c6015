#include <syncnorm/failure.h>

#include "absl/strings/cord.h"
#include "proto/messages.h"

namespace syncnorm {
namespace {

constexpr absl::string_view kPayloadUrl = "type.googleapis.com/syncnorm.v1.Failure";

}  // namespace

absl::Status ToStatus(const Failure& failure) {
  absl::Status status(failure.code, failure.text);
  v1::Failure message;
  wire::To(failure, &message);
  message.clear_text();  // is the status's own message
  status.SetPayload(kPayloadUrl, absl::Cord(message.SerializeAsString()));
  return status;
}

std::optional<Failure> FailureOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload) return std::nullopt;
  v1::Failure message;
  Failure failure;
  if (!message.ParseFromString(std::string(*payload)) || !wire::From(message, &failure).ok()) {
    return std::nullopt;
  }
  failure.text = std::string(status.message().data(), status.message().size());
  return failure;
}

}  // namespace syncnorm
