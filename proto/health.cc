#include "proto/health.h"

#include <google/protobuf/unknown_field_set.h>

namespace syncnorm::health {
namespace {

using google::protobuf::UnknownField;
using google::protobuf::UnknownFieldSet;

constexpr int kFirstField = 1;  // the only one of both messages

bool Parse(absl::string_view bytes, UnknownFieldSet* fields) {
  return fields->ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

std::string Bytes(const UnknownFieldSet& fields) {
  std::string bytes;
  fields.SerializeToString(&bytes);  // fails only for a stream that does
  return bytes;
}

}  // namespace

const char* Name(ServingStatus status) {
  switch (status) {
    case ServingStatus::kServing:
      return "SERVING";
    case ServingStatus::kNotServing:
      return "NOT_SERVING";
    case ServingStatus::kNoService:
      return "SERVICE_UNKNOWN";
    case ServingStatus::kUnknown:
      break;
  }
  return "UNKNOWN";
}

std::string EncodeRequest(absl::string_view service) {
  UnknownFieldSet fields;
  if (!service.empty()) fields.AddLengthDelimited(kFirstField, std::string(service));
  return Bytes(fields);
}

std::string EncodeResponse(ServingStatus status) {
  UnknownFieldSet fields;
  if (status != ServingStatus::kUnknown) {
    fields.AddVarint(kFirstField, static_cast<uint64_t>(status));
  }
  return Bytes(fields);
}

std::optional<std::string> DecodeRequest(absl::string_view bytes) {
  UnknownFieldSet fields;
  if (!Parse(bytes, &fields)) return std::nullopt;
  std::string service;
  for (int i = 0; i < fields.field_count(); ++i) {
    const UnknownField& field = fields.field(i);
    if (field.number() == kFirstField && field.type() == UnknownField::TYPE_LENGTH_DELIMITED) {
      service = field.length_delimited();
    }
  }
  return service;
}

std::optional<ServingStatus> DecodeResponse(absl::string_view bytes) {
  UnknownFieldSet fields;
  if (!Parse(bytes, &fields)) return std::nullopt;
  uint64_t number = 0;
  for (int i = 0; i < fields.field_count(); ++i) {
    const UnknownField& field = fields.field(i);
    if (field.number() == kFirstField && field.type() == UnknownField::TYPE_VARINT) {
      number = field.varint();
    }
  }
  if (number > static_cast<uint64_t>(ServingStatus::kNoService)) return ServingStatus::kUnknown;
  return static_cast<ServingStatus>(number);
}

}  // namespace syncnorm::health
