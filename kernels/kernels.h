// Kernels: all arithmetic on tensors, one interface for every backend.
//
//   scalar/   the definition: plain loops, every intermediate in double.
//             Tests hold every other backend against it.
//   cpu/      one SIMD body on Highway, compiled for each instruction set,
//             chosen at run time.
//
// Kernels see a tensor as a Grid: element (o, c, i) lies at
// (o * channels + c) * inner + i, and (o, i) is a *position*, numbered
// o * inner + i.  A contiguous (N, C, S...) tensor is {N, C, prod(S)}; a
// channels-last one, or (T, B, C), is {positions, C, 1}.
//
// Common to all:
//   * `valid`: null (all positions count), or one byte a position, 0 = masked
//     out.  Values at masked positions are never used, so NaN may lie there.
//   * Per-channel parameters and results are double, whatever the dtype; the
//     backend narrows them as it sees fit and still meets the bounds of
//     docs/numerics.md (f32: 2e-6 of the tensor's largest value; f16 and bf16
//     accumulate in float32 or better and round to nearest even once, on store).
//   * x, dy, y, dx of one call have one dtype and one grid.  y may be x and dx may be
//     dy (in place); no other overlap.
//   * Data need be aligned to the element only.  Sizes may be 0.
//   * Deterministic: the same call gives the same bits on the same machine.
//
// Thread-safety: stateless, all methods may be called concurrently.
// Arguments are checked by the callers (client/norms); none are wrong here.
#pragma once

#include <syncnorm/tensor.h>

#include <cstdint>
#include <string_view>

namespace syncnorm::kernels {

struct Grid {
  int64_t outer = 0;
  int64_t channels = 0;
  int64_t inner = 0;

  int64_t positions() const { return outer * inner; }
  friend bool operator==(const Grid&, const Grid&) = default;
};

struct ConstSlab {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Grid grid;
};

struct Slab {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Grid grid;
  operator ConstSlab() const { return {data, dtype, grid}; }  // NOLINT: a view of a view
};

class Kernels {
 public:
  virtual ~Kernels() = default;

  // "scalar", or the instruction set that cpu/ chose ("avx3", "avx2", ...;
  // "one_lane" where the machine has none of those it was compiled for).
  virtual std::string_view name() const = 0;

  // ---- Batch norm ----------------------------------------------------------

  // count = valid positions; mean[c] and m2[c] = sum of (x - mean[c])^2 over
  // them.  Zeros when the count is 0.  Merged without cancellation: never
  // E[x^2] - E[x]^2.
  virtual void MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean,
                      double* m2) const = 0;

  // y = (x - center[c]) * scale[c] + shift[c]; 0 at masked positions.
  virtual void Affine(const ConstSlab& x, const uint8_t* valid, const double* center,
                      const double* scale, const double* shift, const Slab& y) const = 0;

  // Over valid positions: sum_dy[c] = sum dy,
  // sum_dy_xc[c] = sum dy * (x - center[c]).
  virtual void GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid,
                        const double* center, double* sum_dy, double* sum_dy_xc) const = 0;

  // dx = a[c] * dy + b[c] * (x - center[c]) + d[c]; 0 at masked positions.
  virtual void Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid,
                    const double* center, const double* a, const double* b, const double* d,
                    const Slab& dx) const = 0;

  // ---- PowerNorm (grids with inner == 1) -----------------------------------
  // `groups` divides channels; group g of token t is its channels
  // [g * channels / groups, (g + 1) * channels / groups).  r, of
  // positions x groups, is the group scaling's factor: z below is built on
  // xs = x * r[t][g(c)], which is never stored.

  // r[t][g] = 1 / sqrt(mean over the group of x^2 + eps), for every token.
  virtual void GroupScale(const ConstSlab& x, int64_t groups, double eps, double* r) const = 0;

  // Over valid positions: count, and sum_x2[c] = sum of xs^2.
  virtual void PowerSums(const ConstSlab& x, const double* r, int64_t groups, const uint8_t* valid,
                         uint64_t* count, double* sum_x2) const = 0;

  // y = xs * scale[c] + shift[c], at every position, masked or not.
  virtual void PowerApply(const ConstSlab& x, const double* r, int64_t groups, const double* scale,
                          const double* shift, const Slab& y) const = 0;

  // Over valid positions: sum dy, sum dy * xs, sum xs^2, per channel, and the
  // number of positions summed.
  virtual void PowerGradSums(const ConstSlab& x, const double* r, int64_t groups,
                             const ConstSlab& dy, const uint8_t* valid, uint64_t* count,
                             double* sum_dy, double* sum_dy_xs, double* sum_xs2) const = 0;

  // With d = a[c] * dy + b[c] * xs (0 at masked positions), the gradient
  // through the group scaling:  dx = r * d - x * r^3 * mean over the group of x * d.
  virtual void PowerGrad(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                         const uint8_t* valid, const double* a, const double* b,
                         const Slab& dx) const = 0;
};

// The definition, in double.
const Kernels& Scalar();
// The SIMD backend for the best instruction set of this machine.
const Kernels& Cpu();

}  // namespace syncnorm::kernels
