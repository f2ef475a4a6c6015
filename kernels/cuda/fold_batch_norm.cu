// Global moments to mean, 1 / std and the coefficients of Affine; running statistics move.
#include "kernels/cuda/fold.h"
#include "kernels/cuda/kept.cuh"
#include "kernels/cuda/values.cuh"

namespace syncnorm::kernels::cuda {
namespace {

__device__ void Coefficients(BatchNormKept* kept, int64_t channels, int64_t c, double mean,
                             double invstd, const Values& weight, const Values& bias) {
  kept->row(0, channels)[c] = mean;
  kept->row(1, channels)[c] = invstd;
  kept->row(2, channels)[c] = ValueOr(weight, c, 1) * invstd;
  kept->row(3, channels)[c] = ValueOr(bias, c, 0);
}

// Whether this thread belongs to the last block to come here, and is its first: all others have
// read what it may now change.
__device__ bool IsLast(BatchNormKept* kept) {
  __syncthreads();
  if (threadIdx.x != 0) return false;
  __threadfence();
  const auto ticket = atomicAdd(reinterpret_cast<unsigned long long*>(&kept->ticket), 1ull);
  if (ticket != gridDim.x - 1) return false;
  kept->ticket = 0;
  return true;
}

// A mask that was wrong is told by the Lane in a group, and has failed the round then.
__device__ bool Masked(BatchNormKept* kept, const uint64_t* bad) {
  const MomentsHeader* header = kept->local().header;
  return bad != nullptr && *static_cast<const volatile uint64_t*>(&header->bad) != 0;
}

// The number of batches, and whether the mask was wrong, is read by all blocks before it is
// changed.
__global__ void Fold(BatchNormFold fold) {
  const uint64_t count = fold.moments.header->count;
  const bool failed = fold.moments.header->failed != 0 || Masked(fold.kept, fold.bad);
  const bool moves = !failed && count > 0 && fold.running_mean.data != nullptr;
  double f = fold.momentum;
  int64_t batches = 0;
  if (moves && fold.num_batches_tracked != nullptr) {
    batches = *static_cast<volatile int64_t*>(fold.num_batches_tracked) + 1;
    if (f < 0) f = 1.0 / static_cast<double>(batches);
  }
  if (IsLast(fold.kept)) {
    if (batches > 0) *fold.num_batches_tracked = batches;
    ReportMask(fold.kept, fold.bad);
  }
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c == 0) {
    fold.kept->count = count;
    fold.kept->step = fold.moments.header->step;
    fold.kept->backward_came = 0;
    fold.kept->origin = fold.kept;
  }
  if (c >= fold.channels) return;
  if (failed) {
    Coefficients(fold.kept, fold.channels, c, NotANumber(), NotANumber(), fold.weight, fold.bias);
    return;
  }
  const double n = static_cast<double>(count == 0 ? 1 : count);
  const double mean = fold.moments.values()[c];
  const double m2 = Wire(fold.moments.values()[fold.channels + c], fold.as_on_wire);
  Coefficients(fold.kept, fold.channels, c, mean, InverseRoot(m2 / n, fold.eps), fold.weight,
               fold.bias);
  if (!moves) return;
  Store(fold.running_mean, c, (1 - f) * ValueOr(fold.running_mean, c, 0) + f * mean);
  if (count == 1) return;
  Store(fold.running_var, c, (1 - f) * ValueOr(fold.running_var, c, 0) + f * (m2 / (n - 1)));
}

__global__ void Eval(BatchNormEval eval) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const bool failed = Masked(eval.kept, eval.bad);
  if (IsLast(eval.kept)) {
    eval.kept->origin = eval.kept;
    ReportMask(eval.kept, eval.bad);
  }
  if (c >= eval.channels) return;
  const double invstd = InverseRoot(ValueOr(eval.running_var, c, 1), eval.eps);
  Coefficients(eval.kept, eval.channels, c, ValueOr(eval.running_mean, c, 0),
               failed ? NotANumber() : invstd, eval.weight, eval.bias);
}

// One block.
__global__ void Recall(BatchNormRecall recall) {
  const bool bad = recall.kept->local().header->bad != 0;
  BatchNormKept* const found =
      FindRepeated(recall.kept, recall.candidate, recall.candidates, 2 * recall.channels);
  if (threadIdx.x == 0) {
    recall.kept->count = found == nullptr ? 0 : found->count;
    recall.kept->step = found == nullptr ? 0 : found->step;
    recall.kept->backward_came = 0;
    recall.kept->origin = found == nullptr ? recall.kept : found;
    if (found == nullptr) *recall.missed = 1;
    ReportMask(recall.kept, recall.bad);
  }
  for (int64_t c = threadIdx.x; c < recall.channels; c += blockDim.x) {
    const double mean = found == nullptr || bad ? NotANumber() : found->row(0, recall.channels)[c];
    const double invstd =
        found == nullptr || bad ? NotANumber() : found->row(1, recall.channels)[c];
    Coefficients(recall.kept, recall.channels, c, mean, invstd, recall.weight, recall.bias);
  }
}

// dx = a * dy + b * (x - mean) + d.
__global__ void FoldGrad(BatchNormGradFold fold) {
  const int64_t channels = fold.channels;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c == 0) {
    fold.kept->repeated()->backward_came = 1;
    fold.local.header->step = 0;
  }
  if (c >= channels) return;
  const double invstd = fold.kept->row(1, channels)[c];
  const double* local = fold.local.values();
  Store(fold.grad_weight, c, local[channels + c] * invstd);
  Store(fold.grad_bias, c, local[c]);
  if (fold.coefficients == nullptr) return;
  double a = ValueOr(fold.weight, c, 1) * invstd, b = 0, d = 0;
  if (fold.moments.header != nullptr) {
    if (fold.kept->count == 1) a = 0;  // of one value y = bias, whatever it is
    const double n = static_cast<double>(fold.kept->count == 0 ? 1 : fold.kept->count);
    const double mean_dy = Wire(fold.moments.values()[c], fold.as_on_wire) / n;
    const double mean_dy_xc = Wire(fold.moments.values()[channels + c], fold.as_on_wire) / n;
    b = -a * invstd * invstd * mean_dy_xc;
    d = -a * mean_dy;
    if (fold.moments.header->failed != 0) a = b = d = NotANumber();
  }
  fold.coefficients[c] = a;
  fold.coefficients[channels + c] = b;
  fold.coefficients[2 * channels + c] = d;
}

}  // namespace

cudaError_t FoldBatchNorm(const BatchNormFold& fold, const Launch& on) {
  return LaunchFold(Fold, fold, FoldBlocks(fold.channels), on);
}

cudaError_t EvalBatchNorm(const BatchNormEval& eval, const Launch& on) {
  return LaunchFold(Eval, eval, FoldBlocks(eval.channels), on);
}

cudaError_t RecallBatchNorm(const BatchNormRecall& recall, const Launch& on) {
  return LaunchFold(Recall, recall, 1, on);
}

cudaError_t FoldBatchNormGrad(const BatchNormGradFold& fold, const Launch& on) {
  return LaunchFold(FoldGrad, fold, FoldBlocks(fold.channels), on);
}

}  // namespace syncnorm::kernels::cuda
