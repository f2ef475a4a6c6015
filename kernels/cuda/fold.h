// What stands between the moments and the maps: global moments are folded in, running statistics
// move, and the coefficients of the next map come out.  Per channel, in double; on a device, so
// that no value visits the host.
//
// Moments, wherever they lie (device memory; pinned memory, where the network puts them):
//
//   | count | bad | step | failed |  row 0: C doubles | row 1 | ...
//     u64     u64   u64    u64
//
//   bad     1-based position of the first value of a mask that was neither 0 nor 1; 0: none
//   step    of the layer: out, where only the device knows it, otherwise 0; of a result
//   failed  not 0: the round failed.  Coefficients become NaN, so that nothing wrong passes for
//           a result, and nothing else moves.
//
// Values are the caller's, in the caller's dtype; data null: none, i.e. 1 for a weight, 0 for
// a bias, nothing to write for a gradient.
//
// Formulas and edges: docs/numerics.md, syncnorm/batch_norm.h.  All is asynchronous, as in cuda.h.
//
// Thread-safety: pure functions.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cuda.h"

namespace syncnorm::kernels::cuda {

struct MomentsHeader {
  uint64_t count;
  uint64_t bad;
  uint64_t step;
  uint64_t failed;
};

#ifdef __CUDACC__
#define SYNCNORM_BOTH __host__ __device__
#else
#define SYNCNORM_BOTH
#endif

struct MomentsView {
  MomentsHeader* header = nullptr;
  SYNCNORM_BOTH double* values() const { return reinterpret_cast<double*>(header + 1); }
  static constexpr size_t Bytes(int64_t rows, int64_t channels) {
    return sizeof(MomentsHeader) + static_cast<size_t>(rows * channels) * sizeof(double);
  }
};

struct Values {
  void* data = nullptr;
  DType dtype = DType::kF32;
};

// ---- Batch norm -------------------------------------------------------------

// What a forward leaves on the device for its backward and for its recomputations.  Behind it
// lies more:
//
//   | BatchNormKept | local moments: header, mean, M2 | mean | invstd | scale | shift |
//
// the latter C doubles each: y = (x - mean) * scale + shift.  Bytes(), aligned to 64.
struct BatchNormKept {
  uint64_t count;          // global
  uint64_t step;           // 0: a recomputation that found nothing
  uint64_t backward_came;  // not 0: it has had one
  uint64_t ticket;         // of the folding kernel's blocks; 0 between calls
  BatchNormKept* origin;   // whose forward this is: itself, or what a recomputation repeats; null
                           // in new memory, where a captured forward has not run yet
  uint64_t unused[3];      // so that the rows begin at a multiple of 32 bytes

  SYNCNORM_BOTH BatchNormKept* repeated() { return origin == nullptr ? this : origin; }
  SYNCNORM_BOTH MomentsView local() { return {reinterpret_cast<MomentsHeader*>(this + 1)}; }
  SYNCNORM_BOTH double* row(int64_t row, int64_t channels) {
    return local().values() + (2 + row) * channels;
  }
  static constexpr size_t Bytes(int64_t channels) {
    return sizeof(BatchNormKept) + MomentsView::Bytes(6, channels);
  }
};

struct BatchNormFold {
  int64_t channels = 0;
  MomentsView moments;      // rows: mean, M2
  bool as_on_wire = false;  // M2 is rounded to float first, as a message would
  double eps = 0;
  Values weight, bias;
  // Null data: no running statistics move.
  Values running_mean, running_var;
  int64_t* num_batches_tracked = nullptr;
  double momentum = -1;  // negative: the cumulative average
  BatchNormKept* kept = nullptr;
  // Where a wrong mask is reported, in pinned memory: it is as a failed round.  Null: nobody asks
  // here.  kept->local()'s `bad` is 0 afterwards.
  uint64_t* bad = nullptr;
};
cudaError_t FoldBatchNorm(const BatchNormFold& fold, const Launch& on);

// Eval: coefficients from the running statistics.
struct BatchNormEval {
  int64_t channels = 0;
  double eps = 0;
  Values weight, bias, running_mean, running_var;
  BatchNormKept* kept = nullptr;
  uint64_t* bad = nullptr;
};
cudaError_t EvalBatchNorm(const BatchNormEval& eval, const Launch& on);

// A recomputation: finds the kept forward whose local moments have the same bits, the newest
// whose backward has not come, or else the newest; and takes its statistics.  If there is
// none, `kept->step` becomes 0 and the coefficients NaN; `missed`, in pinned memory, becomes 1.
constexpr int kMostRecalled = 32;
struct BatchNormRecall {
  int64_t channels = 0;
  Values weight, bias;
  BatchNormKept* kept = nullptr;
  uint64_t* bad = nullptr;
  uint64_t* missed = nullptr;
  int candidates = 0;  // newest first
  BatchNormKept* candidate[kMostRecalled] = {};
};
cudaError_t RecallBatchNorm(const BatchNormRecall& recall, const Launch& on);

struct BatchNormGradFold {
  int64_t channels = 0;
  MomentsView local;        // rows: sum dy, sum dy * (x - mean); of this worker's slice
  MomentsView moments;      // the group's; null header: statistics were constants (eval)
  bool as_on_wire = false;  // both rows are rounded to float first
  Values weight;
  Values grad_weight, grad_bias;
  BatchNormKept* kept = nullptr;
  double* coefficients = nullptr;  // a, b, d of Grad, C each; null: only the parameters' gradients
};
cudaError_t FoldBatchNormGrad(const BatchNormGradFold& fold, const Launch& on);

}  // namespace syncnorm::kernels::cuda
