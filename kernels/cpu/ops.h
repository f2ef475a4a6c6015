// The operations of the SIMD backend, each in a file of its own: they have the
// contracts of Kernels' methods of the same names, and run on the best
// instruction set of this machine.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernels.h"

namespace syncnorm::kernels::cpu {

std::string_view TargetName();

void MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean, double* m2);
void Affine(const ConstSlab& x, const uint8_t* valid, const double* center, const double* scale,
            const double* shift, const Slab& y);
void GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
              double* sum_dy, double* sum_dy_xc);
void Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
          const double* a, const double* b, const double* d, const Slab& dx);

void GroupScale(const ConstSlab& x, int64_t groups, double eps, double* r);
void PowerSums(const ConstSlab& x, const double* r, int64_t groups, const uint8_t* valid,
               uint64_t* count, double* sum_x2);
void PowerApply(const ConstSlab& x, const double* r, int64_t groups, const double* scale,
                const double* shift, const Slab& y);
void PowerGradSums(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                   const uint8_t* valid, uint64_t* count, double* sum_dy, double* sum_dy_xs,
                   double* sum_xs2);
void PowerGrad(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
               const uint8_t* valid, const double* a, const double* b, const Slab& dx);

}  // namespace syncnorm::kernels::cpu
