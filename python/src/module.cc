// syncnorm._core: the C++ client as Python sees it.  What users call is in python/syncnorm.
#include <pybind11/pybind11.h>
#include <syncnorm/recompute.h>

#include <optional>

#include "python/src/errors.h"
#include "python/src/group.h"
#include "python/src/lent.h"
#include "python/src/norm.h"
#include "python/src/tensor.h"

namespace py = ::pybind11;

namespace {

// RecomputeScope as a context manager.
struct Recompute {
  std::optional<syncnorm::RecomputeScope> scope;
};

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ client; use syncnorm and syncnorm.torch.";
  syncnorm::python::BindTensor(&module);
  syncnorm::python::BindGroup(&module);
  syncnorm::python::BindBatchNorm(&module);
  syncnorm::python::BindPowerNorm(&module);
  py::class_<Recompute>(module, "Recompute")
      .def(py::init<>())
      .def("__enter__", [](Recompute* self) { self->scope.emplace(); })
      .def("__exit__", [](Recompute* self, const py::args&) { self->scope.reset(); });
  syncnorm::python::LendErrors(&module, &syncnorm::python::RaiseIfError);
  module.def("recomputing", &syncnorm::RecomputeScope::active);
}
