#include "python/src/python_kernels.h"

#include <utility>

namespace syncnorm::python {

namespace py = ::pybind11;
using kernels::ConstSlab;
using kernels::Slab;

namespace {

// Writable also where it is not to be written: readers of read-only memory warn.
py::memoryview Doubles(const double* values, const ConstSlab& x) {
  return py::memoryview::from_memory(const_cast<double*>(values),
                                     x.grid.channels * static_cast<py::ssize_t>(sizeof(double)));
}

}  // namespace

PythonKernels::PythonKernels(py::object implementation)
    : implementation_(std::move(implementation)) {}

PythonKernels::~PythonKernels() = default;

void PythonKernels::MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean,
                           double* m2) const {
  const py::gil_scoped_acquire gil;
  *count = implementation_.attr("mean_m2")(valid != nullptr, Doubles(mean, x), Doubles(m2, x))
               .cast<uint64_t>();
}

void PythonKernels::Affine(const ConstSlab& x, const uint8_t* valid, const double* center,
                           const double* scale, const double* shift, const Slab&) const {
  const py::gil_scoped_acquire gil;
  implementation_.attr("affine")(valid != nullptr, Doubles(center, x), Doubles(scale, x),
                                 Doubles(shift, x));
}

void PythonKernels::GradSums(const ConstSlab& x, const ConstSlab&, const uint8_t* valid,
                             const double* center, double* sum_dy, double* sum_dy_xc) const {
  const py::gil_scoped_acquire gil;
  implementation_.attr("grad_sums")(valid != nullptr, Doubles(center, x), Doubles(sum_dy, x),
                                    Doubles(sum_dy_xc, x));
}

void PythonKernels::Grad(const ConstSlab& x, const ConstSlab&, const uint8_t* valid,
                         const double* center, const double* a, const double* b, const double* d,
                         const Slab&) const {
  const py::gil_scoped_acquire gil;
  implementation_.attr("grad")(valid != nullptr, Doubles(center, x), Doubles(a, x), Doubles(b, x),
                               Doubles(d, x));
}

// r stays with the object: it is one number a token and group, and on the device.
void PythonKernels::GroupScale(const ConstSlab&, int64_t groups, double eps, double*) const {
  const py::gil_scoped_acquire gil;
  implementation_.attr("group_scale")(groups, eps);
}

void PythonKernels::PowerSums(const ConstSlab& x, const double*, int64_t, const uint8_t* valid,
                              uint64_t* count, double* sum_x2) const {
  const py::gil_scoped_acquire gil;
  *count =
      implementation_.attr("power_sums")(valid != nullptr, Doubles(sum_x2, x)).cast<uint64_t>();
}

void PythonKernels::PowerApply(const ConstSlab& x, const double*, int64_t, const double* scale,
                               const double* shift, const Slab&) const {
  const py::gil_scoped_acquire gil;
  implementation_.attr("power_apply")(Doubles(scale, x), Doubles(shift, x));
}

void PythonKernels::PowerGradSums(const ConstSlab& x, const double*, int64_t, const ConstSlab&,
                                  const uint8_t* valid, uint64_t* count, double* sum_dy,
                                  double* sum_dy_xs, double* sum_xs2) const {
  const py::gil_scoped_acquire gil;
  *count = implementation_
               .attr("power_grad_sums")(valid != nullptr, Doubles(sum_dy, x), Doubles(sum_dy_xs, x),
                                        Doubles(sum_xs2, x))
               .cast<uint64_t>();
}

void PythonKernels::PowerGrad(const ConstSlab& x, const double*, int64_t, const ConstSlab&,
                              const uint8_t* valid, const double* a, const double* b,
                              const Slab&) const {
  const py::gil_scoped_acquire gil;
  implementation_.attr("power_grad")(valid != nullptr, Doubles(a, x), Doubles(b, x));
}

}  // namespace syncnorm::python
