// The messages of gRPC's health service, grpc.health.v1, as bytes:
//
//   Check(HealthCheckRequest)  -> HealthCheckResponse
//   Watch(HealthCheckRequest)  -> stream of HealthCheckResponse
//
//   HealthCheckRequest   { string service = 1; }
//   HealthCheckResponse  { ServingStatus status = 1; }
//
// Encoded without generated code on purpose.  Generated messages enter themselves, by the name of
// their file, in the pool of libprotobuf, which a process has once; a second copy of them ends the
// process (seen in 3.21), equal or not.  And a coordinator may be part of a program that has its
// own: another extension of the same Python, another library of the trainer.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace syncnorm::health {

constexpr char kCheckMethod[] = "/grpc.health.v1.Health/Check";
constexpr char kWatchMethod[] = "/grpc.health.v1.Health/Watch";

// With the standard's numbers.
enum class ServingStatus : uint8_t { kUnknown = 0, kServing = 1, kNotServing = 2, kNoService = 3 };

// As the standard writes it: "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN", "UNKNOWN".
const char* Name(ServingStatus status);

std::string EncodeRequest(absl::string_view service);
std::string EncodeResponse(ServingStatus status);

// None: not such a message.  Fields that are not known are skipped; the last of several counts.
std::optional<std::string> DecodeRequest(absl::string_view bytes);
// A number that is not known is kUnknown.
std::optional<ServingStatus> DecodeResponse(absl::string_view bytes);

}  // namespace syncnorm::health
