// Kernels whose arithmetic is a Python object's, for tensors that the CPU's kernels cannot read:
// those of another device, by that device's own operations (syncnorm/torch/_kernels.py).
//
// The object knows the tensors of the call; what it is given are the per-channel numbers, as
// memoryviews of float64 that are valid during the call, and whether masked positions exist.
//
// Thread-safety: takes the GIL for each call.  What Python raises is thrown
// (pybind11::error_already_set) through the norm that called.
#pragma once

#include <pybind11/pybind11.h>

#include "kernels/kernels.h"

namespace syncnorm::python {

class PythonKernels final : public kernels::Kernels {
 public:
  explicit PythonKernels(pybind11::object implementation);
  ~PythonKernels() override;

  std::string_view name() const override { return "python"; }
  void MeanM2(const kernels::ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean,
              double* m2) const override;
  void Affine(const kernels::ConstSlab& x, const uint8_t* valid, const double* center,
              const double* scale, const double* shift, const kernels::Slab& y) const override;
  void GradSums(const kernels::ConstSlab& x, const kernels::ConstSlab& dy, const uint8_t* valid,
                const double* center, double* sum_dy, double* sum_dy_xc) const override;
  void Grad(const kernels::ConstSlab& x, const kernels::ConstSlab& dy, const uint8_t* valid,
            const double* center, const double* a, const double* b, const double* d,
            const kernels::Slab& dx) const override;
  void GroupScale(const kernels::ConstSlab& x, int64_t groups, double eps,
                  double* r) const override;
  void PowerSums(const kernels::ConstSlab& x, const double* r, int64_t groups, const uint8_t* valid,
                 uint64_t* count, double* sum_x2) const override;
  void PowerApply(const kernels::ConstSlab& x, const double* r, int64_t groups, const double* scale,
                  const double* shift, const kernels::Slab& y) const override;
  void PowerGradSums(const kernels::ConstSlab& x, const double* r, int64_t groups,
                     const kernels::ConstSlab& dy, const uint8_t* valid, uint64_t* count,
                     double* sum_dy, double* sum_dy_xs, double* sum_xs2) const override;
  void PowerGrad(const kernels::ConstSlab& x, const double* r, int64_t groups,
                 const kernels::ConstSlab& dy, const uint8_t* valid, const double* a,
                 const double* b, const kernels::Slab& dx) const override;

 private:
  const pybind11::object implementation_;
};

}  // namespace syncnorm::python
