// Between the structs and the protobuf messages, one pair of functions a type.
// Private to proto/: codec.cc and failure.cc.
//
// From* functions check everything that codec.h says a decoder refuses, and
// reuse the memory of what they fill.
#pragma once

#include "absl/status/status.h"
#include "proto/wire.h"
#include "syncnorm/v1/syncnorm.pb.h"

namespace syncnorm::wire {

void To(const Join& from, v1::Join* to);
void To(const Joined& from, v1::Joined* to);
void To(const Contribution& from, v1::Contribution* to);
void To(const Result& from, v1::Result* to);
void To(const Failure& from, v1::Failure* to);
void To(const Draining& from, v1::Draining* to);
void To(const Leave& from, v1::Leave* to);
void To(const Restored& from, v1::Restored* to);
void To(const EpochChanged& from, v1::EpochChanged* to);
void To(const Handover& from, v1::Handover* to);

absl::Status From(const v1::Join& from, Join* to);
absl::Status From(const v1::Joined& from, Joined* to);
absl::Status From(const v1::Contribution& from, Contribution* to);
absl::Status From(const v1::Result& from, Result* to);
absl::Status From(const v1::Failure& from, Failure* to);
absl::Status From(const v1::EpochChanged& from, EpochChanged* to);

}  // namespace syncnorm::wire
