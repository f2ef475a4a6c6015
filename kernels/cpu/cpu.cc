// The SIMD backend as a Kernels.
#include "kernels/cpu/ops.h"
#include "kernels/kernels.h"

namespace syncnorm::kernels {
namespace {

class CpuKernels final : public Kernels {
 public:
  std::string_view name() const override { return cpu::TargetName(); }

  void MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean,
              double* m2) const override {
    cpu::MeanM2(x, valid, count, mean, m2);
  }
  void Affine(const ConstSlab& x, const uint8_t* valid, const double* center, const double* scale,
              const double* shift, const Slab& y) const override {
    cpu::Affine(x, valid, center, scale, shift, y);
  }
  void GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
                double* sum_dy, double* sum_dy_xc) const override {
    cpu::GradSums(x, dy, valid, center, sum_dy, sum_dy_xc);
  }
  void Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
            const double* a, const double* b, const double* d, const Slab& dx) const override {
    cpu::Grad(x, dy, valid, center, a, b, d, dx);
  }
  void GroupScale(const ConstSlab& x, int64_t groups, double eps, double* r) const override {
    cpu::GroupScale(x, groups, eps, r);
  }
  void PowerSums(const ConstSlab& x, const double* r, int64_t groups, const uint8_t* valid,
                 uint64_t* count, double* sum_x2) const override {
    cpu::PowerSums(x, r, groups, valid, count, sum_x2);
  }
  void PowerApply(const ConstSlab& x, const double* r, int64_t groups, const double* scale,
                  const double* shift, const Slab& y) const override {
    cpu::PowerApply(x, r, groups, scale, shift, y);
  }
  void PowerGradSums(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                     const uint8_t* valid, uint64_t* count, double* sum_dy, double* sum_dy_xs,
                     double* sum_xs2) const override {
    cpu::PowerGradSums(x, r, groups, dy, valid, count, sum_dy, sum_dy_xs, sum_xs2);
  }
  void PowerGrad(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                 const uint8_t* valid, const double* a, const double* b,
                 const Slab& dx) const override {
    cpu::PowerGrad(x, r, groups, dy, valid, a, b, dx);
  }
};

}  // namespace

const Kernels& Cpu() {
  static const CpuKernels kernels;
  return kernels;
}

}  // namespace syncnorm::kernels
