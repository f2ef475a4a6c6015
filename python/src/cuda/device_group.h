// DeviceGroup: the DeviceReducer of a group of _core, as Python holds it.
//
// Thread-safety: thread-safe.
#pragma once

#include <pybind11/pybind11.h>
#include <syncnorm/device.h>

#include <memory>

namespace syncnorm::python {

struct DeviceGroup {
  DeviceGroup(std::shared_ptr<Reducer> of, std::unique_ptr<DeviceReducer> made);
  // Waits for rounds that were submitted, without the GIL.
  ~DeviceGroup();
  DeviceGroup(const DeviceGroup&) = delete;
  DeviceGroup& operator=(const DeviceGroup&) = delete;

  std::shared_ptr<Reducer> group;  // outlives reducer
  std::unique_ptr<DeviceReducer> reducer;
};

void BindDeviceGroup(pybind11::module_* module);

}  // namespace syncnorm::python
