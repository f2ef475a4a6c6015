// What the two bound norms share.
//
// Thread-safety: functions; callers hold the GIL.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/norms/backend.h"
#include "proto/clock.h"
#include "python/src/blocking.h"
#include "python/src/errors.h"
#include "python/src/python_kernels.h"

namespace syncnorm::python {

// A Python function to be called when the layer's values are to be brought to it, or taken from it.
using Hook = std::function<void()>;

// What Python raises inside a hook is thrown through the group's call.
template <typename Core>
void SetStateHooks(Core* core, Hook before_save, Hook after_load) {
  core->set_state_hooks(
      [before_save = std::move(before_save)] {
        before_save();
        return absl::OkStatus();
      },
      std::move(after_load));
}

// Adds to `waited` how long `call` takes, its arithmetic included, if it stands still for the
// network.
template <typename Core, typename Call>
absl::Status Timed(const Core& core, double* waited, Call call) {
  const int64_t waits = core.blocking_waits();
  const absl::Time began = MonotonicClock().Now();
  absl::Status status = call();
  if (core.blocking_waits() > waits) {
    *waited += absl::ToDoubleSeconds(MonotonicClock().Now() - began);
  }
  return status;
}

// Makes one call of a norm, with the kernels that `implementation` is or, if None, the CPU's.
template <typename Call>
void CallNorm(const pybind11::object& implementation, Call call) {
  if (implementation.is_none()) {
    RaiseIfError(Blocking(call));
    return;
  }
  const PythonKernels kernels(implementation);
  RaiseIfError(Blocking([&] {
    const norms::BackendScope scope(&kernels);
    return call();
  }));
}

void BindBatchNorm(pybind11::module_* module);
void BindPowerNorm(pybind11::module_* module);

}  // namespace syncnorm::python
