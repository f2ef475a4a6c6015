#include "python/src/tensor.h"

#include <pybind11/stl.h>

#include "absl/strings/str_cat.h"
#include "kernels/element.h"
#include "python/src/errors.h"

namespace syncnorm::python {

namespace py = ::pybind11;

namespace {

void CheckElements(const View& view, const char* what, size_t expected) {
  const int64_t elements = view.tensor().elements();
  if (elements == static_cast<int64_t>(expected)) return;
  RaiseIfError(absl::InvalidArgumentError(
      absl::StrCat(what, " has ", elements, " elements; it must have ", expected)));
}

}  // namespace

void Read(const std::optional<View>& view, const char* what, std::vector<double>* values) {
  if (!view.has_value()) return;
  CheckElements(*view, what, values->size());
  const Tensor tensor = view->tensor();
  for (size_t i = 0; i < values->size(); ++i) {
    (*values)[i] = kernels::ReadElement(tensor.dtype, tensor.data, static_cast<int64_t>(i));
  }
}

void Write(const std::vector<double>& values, const char* what, const std::optional<View>& view) {
  if (!view.has_value()) return;
  CheckElements(*view, what, values.size());
  const Tensor tensor = view->tensor();
  for (size_t i = 0; i < values.size(); ++i) {
    kernels::WriteElement(tensor.dtype, tensor.data, static_cast<int64_t>(i), values[i]);
  }
}

void BindTensor(py::module_* module) {
  py::enum_<DType>(*module, "DType")
      .value("F32", DType::kF32)
      .value("F64", DType::kF64)
      .value("F16", DType::kF16)
      .value("BF16", DType::kBF16);
  py::class_<View>(*module, "View")
      .def(py::init([](uintptr_t address, DType dtype, std::vector<int64_t> shape,
                       std::vector<int64_t> strides) {
             return View{address, dtype, std::move(shape), std::move(strides)};
           }),
           py::arg("address"), py::arg("dtype"), py::arg("shape"), py::arg("strides"))
      .def_readonly("address", &View::address)
      .def_readonly("dtype", &View::dtype)
      .def_readonly("shape", &View::shape)
      .def_readonly("strides", &View::strides);
}

}  // namespace syncnorm::python
