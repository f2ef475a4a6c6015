// CUDA kernels: the operations of kernels/kernels.h on a device, enqueued on a
// stream.  What each computes, and which values it may use, is said there; the scalar backend
// is the definition.  This page says what differs.
//
//   * Everything is asynchronous.  An operation enqueues kernels on `on.stream` of the current
//     device and returns; nothing is allocated, copied to the host or waited for, so that every
//     operation can be captured into a CUDA graph.
//   * All pointers are to memory that the device can use: tensors, masks, per-channel arrays and
//     results.  Per-channel arrays are double, aligned to 8 bytes; tensors to their element only.
//   * r, the group scaling's factor, is double for tensors of f64 and float for the others.
//   * Deterministic: the same call on the same kind of device gives the same bits.  How the
//     work is divided depends on the grid, the dtype, Launch::multiprocessors and where the
//     tensors lie modulo 16 bytes, never on the order in which blocks run; partial sums are
//     merged in a fixed order.
//   * Accumulation: f64 in double; the others in float over short runs that start at a value of
//     the channel (no cancellation), merged in double.
//   * Scratch.  Operations that reduce need ScratchBytes() of it, 256-byte aligned.  It is all zero
//     when it is first used; every operation leaves it fit for the next one, of any grid that it is
//     large enough for.  Operations that may run at the same time need scratch of their own.
//
// Each returns cudaSuccess or what launching failed with; what fails later, on the
// device, comes out of later calls of CUDA, as is usual.  Empty grids are legal: sums become zero
// (the count too, where there are no channels), maps do nothing.
//
// Thread-safety: all functions may be called concurrently.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace syncnorm::kernels::cuda {

// Where an operation runs.
struct Launch {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0;  // cudaDevAttrMultiProcessorCount of the current device, > 0
  void* scratch = nullptr;  // null for operations that need none
};

// What any one operation on `grid` with `groups` needs; 0: nothing.
size_t ScratchBytes(const Grid& grid, int64_t groups, DType dtype, int multiprocessors);

// ---- Masks ----------------------------------------------------------------

// valid[p] = 1 where mask[p] is 1, 0 where it is 0.  A mask is one byte or one float a position.
// *bad becomes the smallest 1-based position of another value if that is smaller than what it
// holds or it holds 0; such a position does not count.
cudaError_t ValidFromBytes(const uint8_t* mask, int64_t positions, uint8_t* valid, uint64_t* bad,
                           const Launch& on);
cudaError_t ValidFromFloats(const float* mask, int64_t positions, uint8_t* valid, uint64_t* bad,
                            const Launch& on);
// valid[t * samples + b] = 1 - pad_mask[b * times + t]; `bad` likewise, as a position of pad_mask.
cudaError_t ValidTokens(const uint8_t* pad_mask, int64_t times, int64_t samples, uint8_t* valid,
                        uint64_t* bad, const Launch& on);

// ---- Batch norm -------------------------------------------------------------

cudaError_t MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean,
                   double* m2, const Launch& on);
cudaError_t Affine(const ConstSlab& x, const uint8_t* valid, const double* center,
                   const double* scale, const double* shift, const Slab& y, const Launch& on);
// Also the number of positions summed, which the caller of the CPU kernels knows already.
cudaError_t GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid,
                     const double* center, uint64_t* count, double* sum_dy, double* sum_dy_xc,
                     const Launch& on);
cudaError_t Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid,
                 const double* center, const double* a, const double* b, const double* d,
                 const Slab& dx, const Launch& on);

// ---- PowerNorm (grids with inner == 1) -----------------------------------------

cudaError_t GroupScale(const ConstSlab& x, int64_t groups, double eps, void* r, const Launch& on);
cudaError_t PowerSums(const ConstSlab& x, const void* r, int64_t groups, const uint8_t* valid,
                      uint64_t* count, double* sum_x2, const Launch& on);
cudaError_t PowerApply(const ConstSlab& x, const void* r, int64_t groups, const double* scale,
                       const double* shift, const Slab& y, const Launch& on);
cudaError_t PowerGradSums(const ConstSlab& x, const void* r, int64_t groups, const ConstSlab& dy,
                          const uint8_t* valid, uint64_t* count, double* sum_dy, double* sum_dy_xs,
                          double* sum_xs2, const Launch& on);
cudaError_t PowerGrad(const ConstSlab& x, const void* r, int64_t groups, const ConstSlab& dy,
                      const uint8_t* valid, const double* a, const double* b, const Slab& dx,
                      const Launch& on);

}  // namespace syncnorm::kernels::cuda
