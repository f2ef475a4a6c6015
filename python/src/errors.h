// A status as Python's exception: syncnorm.SyncnormError, with the code and, where the status
// carries a Failure, its group, epoch, round, layer, direction, step, ranks and hosts.
//
// Thread-safety: callers hold the GIL.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm::python {

// Throws unless OK.
void RaiseIfError(const absl::Status& status);

template <typename T>
T ValueOrRaise(absl::StatusOr<T> value) {
  RaiseIfError(value.status());
  return *std::move(value);
}

}  // namespace syncnorm::python
