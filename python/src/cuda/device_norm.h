// What the bound norms of a device share.  They are made of _cuda; all they do is to enqueue, so
// they release the GIL and no signal ends them.
//
// Thread-safety: functions; callers hold the GIL.
#pragma once

#include <pybind11/pybind11.h>
#include <syncnorm/device.h>
#include <syncnorm/recompute.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "python/src/cuda/device_group.h"
#include "python/src/tensor.h"

namespace syncnorm::python {

using OptionalView = std::optional<View>;

// errors.h, of _core.
void RaiseDeviceError(const absl::Status& status);

template <typename T>
T ValueOrRaiseDeviceError(absl::StatusOr<T> value) {
  RaiseDeviceError(value.status());
  return *std::move(value);
}

inline DeviceValues ValuesOf(const OptionalView& view) {
  return view.has_value() ? DeviceValues{reinterpret_cast<void*>(view->address), view->dtype}
                          : DeviceValues{};
}

inline int64_t* CounterOf(std::optional<uintptr_t> address) {
  return reinterpret_cast<int64_t*>(address.value_or(0));
}

inline DeviceStream StreamOf(uintptr_t handle) { return reinterpret_cast<DeviceStream>(handle); }

// A device's norm, and the reducer that it is of; its end waits for rounds, so without the GIL.
template <typename Core>
struct DeviceNorm {
  DeviceNorm(std::shared_ptr<DeviceGroup> of, std::unique_ptr<Core> norm)
      : group(std::move(of)), core(std::move(norm)) {}
  ~DeviceNorm() {
    const pybind11::gil_scoped_release release;
    core.reset();
  }
  DeviceNorm(const DeviceNorm&) = delete;
  DeviceNorm& operator=(const DeviceNorm&) = delete;

  std::shared_ptr<DeviceGroup> group;  // may be null; outlives core
  std::unique_ptr<Core> core;
};

template <typename Core>
struct DeviceContext {
  std::shared_ptr<DeviceNorm<Core>> norm;
  typename Core::Context context;
};

// Makes one call of a norm.
template <typename Call>
void Enqueue(bool recomputing, Call call) {
  const absl::Status status = [&] {
    const pybind11::gil_scoped_release release;
    // _core's scope, in which the caller is, is not seen here.
    std::optional<RecomputeScope> scope;
    if (recomputing) scope.emplace();
    return call();
  }();
  RaiseDeviceError(status);
}

void BindDeviceBatchNorm(pybind11::module_* module);
void BindDevicePowerNorm(pybind11::module_* module);

}  // namespace syncnorm::python
