#include "python/src/errors.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <syncnorm/failure.h>

#include <string>

namespace syncnorm::python {

namespace py = ::pybind11;

void RaiseIfError(const absl::Status& status) {
  if (status.ok()) return;
  const Failure failure = FailureOf(status).value_or(Failure{});
  const py::object type = py::module_::import("syncnorm._errors").attr("SyncnormError");
  py::dict fields;
  fields["group"] = failure.group;
  fields["epoch"] = failure.key.epoch;
  fields["round"] = failure.key.round;
  fields["layer"] = failure.key.layer;
  fields["direction"] = failure.key.layer.empty() ? "" : std::string(Name(failure.key.direction));
  fields["step"] = failure.key.step;
  fields["ranks"] = py::tuple(py::cast(failure.ranks));
  fields["hosts"] = py::tuple(py::cast(failure.hosts));
  const std::string message(status.message().data(), status.message().size());
  const py::object error = type(absl::StatusCodeToString(status.code()), message, **fields);
  PyErr_SetObject(type.ptr(), error.ptr());
  throw py::error_already_set();
}

}  // namespace syncnorm::python
