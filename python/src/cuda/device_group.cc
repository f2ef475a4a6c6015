// _cuda.Reducer.
#include "python/src/cuda/device_group.h"

#include <utility>

#include "python/src/cuda/device_norm.h"
#include "python/src/lent.h"

namespace syncnorm::python {
namespace {

namespace py = ::pybind11;

std::shared_ptr<DeviceGroup> Create(const py::capsule& lent) {
  std::shared_ptr<Reducer> group = Borrow(lent);
  auto reducer = ValueOrRaiseDeviceError(DeviceReducer::Create(group.get()));
  return std::make_shared<DeviceGroup>(std::move(group), std::move(reducer));
}

}  // namespace

DeviceGroup::DeviceGroup(std::shared_ptr<Reducer> of, std::unique_ptr<DeviceReducer> made)
    : group(std::move(of)), reducer(std::move(made)) {}

// The last share may be one of _core's, in a thread without the GIL.
DeviceGroup::~DeviceGroup() {
  if (PyGILState_Check() == 0) {
    reducer.reset();
    return;
  }
  const py::gil_scoped_release release;
  reducer.reset();
}

void BindDeviceGroup(py::module_* module) {
  module->def(
      "check_device", [](int device) { RaiseDeviceError(CheckDevice(device)); }, py::arg("device"));
  py::class_<DeviceGroup, std::shared_ptr<DeviceGroup>>(*module, "Reducer")
      .def(py::init(&Create), py::arg("group"))
      .def("lend",
           [](const std::shared_ptr<DeviceGroup>& g) {
             return Lend(std::shared_ptr<Reducer>(g, g->reducer.get()));
           })
      .def("check", [](DeviceGroup* g) { RaiseDeviceError(g->reducer->Check()); })
      .def(
          "wait_for_results",
          [](DeviceGroup* g, double seconds) {
            const py::gil_scoped_release release;
            return g->reducer->WaitForResults(absl::Seconds(seconds));
          },
          py::arg("seconds"))
      .def_property_readonly("rounds",
                             [](const DeviceGroup& g) { return g.reducer->counters().rounds; })
      .def_property_readonly(
          "stream_waits", [](const DeviceGroup& g) { return g.reducer->counters().stream_waits; });
}

}  // namespace syncnorm::python
