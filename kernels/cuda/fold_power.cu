// Statistics of PowerNorm to running ones, and to the coefficients of its maps.
#include "kernels/cuda/fold_power.h"
#include "kernels/cuda/kept.cuh"
#include "kernels/cuda/values.cuh"

namespace syncnorm::kernels::cuda {
namespace {

enum Row { kInvstd = 0, kPower = 1, kScale = 2, kShift = 3 };

__device__ void Coefficients(const PowerLayer& layer, PowerKept* kept, int64_t c, double invstd) {
  kept->row(kInvstd, layer.channels)[c] = invstd;
  kept->row(kScale, layer.channels)[c] = ValueOr(layer.weight, c, 1) * invstd;
  kept->row(kShift, layer.channels)[c] = ValueOr(layer.bias, c, 0);
}

__device__ double CountOf(uint64_t count) { return static_cast<double>(count == 0 ? 1 : count); }

__global__ void Begin(PowerBegin begin) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c == 0) {
    const uint64_t step = begin.training ? static_cast<uint64_t>(*begin.layer.iters) + 1 : 0;
    begin.kept->count = 0;
    begin.kept->step = step;
    begin.kept->backward_came = 0;
    begin.kept->failed = 0;
    begin.kept->origin = begin.kept;
    begin.kept->local().header->step = step;
  }
  if (c >= begin.layer.channels) return;
  Coefficients(begin.layer, begin.kept, c,
               InverseRoot(ValueOr(begin.layer.phi, c, 1), begin.layer.eps));
}

// One block.
__global__ void ApplyForward(PowerApplyForward apply) {
  const PowerLayer& layer = apply.layer;
  const MomentsHeader header = *apply.moments.header;
  const double n = CountOf(header.count);
  bool finite = true;
  for (int64_t c = threadIdx.x; c < layer.channels; c += blockDim.x) {
    const double power = Wire(apply.moments.values()[c], apply.as_on_wire) / n;
    apply.kept->row(kPower, layer.channels)[c] = power;
    finite &= static_cast<bool>(isfinite(power));
  }
  const bool all_finite = __syncthreads_and(finite);
  const auto t = static_cast<int64_t>(apply.kept->step);
  // On the local path the header is the mask's, too.
  const bool failed = header.failed != 0 || (apply.bad != nullptr && header.bad != 0);
  const bool moves = !failed && header.count > 0 && all_finite;
  const bool by_batch = t <= layer.warmup_iters && header.count > 0;
  const bool cumulative = !layer.paper && t < layer.warmup_iters;
  for (int64_t c = threadIdx.x; c < layer.channels; c += blockDim.x) {
    const double power = apply.kept->row(kPower, layer.channels)[c];
    double phi = ValueOr(layer.phi, c, 1);
    if (apply.coefficients) {
      Coefficients(layer, apply.kept, c,
                   failed ? NotANumber() : InverseRoot(by_batch ? power : phi, layer.eps));
    }
    if (!moves) continue;
    const double steps = static_cast<double>(t);
    if (cumulative) phi = ((steps - 1) * phi + power) / steps;
    Store(layer.phi, c, layer.alpha_fwd * phi + (1 - layer.alpha_fwd) * power);
  }
  __syncthreads();  // all have read the step
  if (threadIdx.x != 0) return;
  apply.kept->count = failed ? 0 : header.count;
  apply.kept->failed = failed;
  if (moves) *layer.iters = t;
  ReportMask(apply.kept, apply.bad);
}

// One block.
__global__ void Recall(PowerRecall recall) {
  const int64_t channels = recall.layer.channels;
  const bool bad = recall.kept->local().header->bad != 0;
  PowerKept* const found = FindRepeated(recall.kept, recall.candidate, recall.candidates, channels);
  if (threadIdx.x == 0) {
    recall.kept->count = 0;
    recall.kept->step = found == nullptr ? 0 : found->step;
    recall.kept->backward_came = 0;
    recall.kept->failed = 0;
    recall.kept->origin = found == nullptr ? recall.kept : found;
    if (found == nullptr) *recall.missed = 1;
    ReportMask(recall.kept, recall.bad);
  }
  for (int64_t c = threadIdx.x; c < channels; c += blockDim.x) {
    Coefficients(recall.layer, recall.kept, c,
                 found == nullptr || bad ? NotANumber() : found->row(kInvstd, channels)[c]);
  }
}

__global__ void Message(PowerMessage message) {
  const int64_t channels = message.layer.channels;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c == 0 && message.counted != nullptr) message.message.header->step = message.kept->step;
  if (c >= channels) return;
  const double invstd = message.kept->row(kInvstd, channels)[c];
  if (message.all != nullptr) {
    Store(message.grad_weight, c, message.all[channels + c] * invstd);
    Store(message.grad_bias, c, message.all[c]);
  }
  if (message.counted == nullptr) return;
  const double weight = ValueOr(message.layer.weight, c, 1);
  message.message.values()[c] =
      weight * invstd * message.counted[channels + c] / message.grad_scale;
  message.message.values()[channels + c] = invstd * invstd * message.counted[2 * channels + c];
}

// e = e * (1 - (1 - alpha_bkw) * Gam) + Lam, if all of both are finite.  By one block.
__device__ void MoveEma(const PowerLayer& layer, const PowerBackwardStatistic& statistic) {
  if (statistic.moments.header == nullptr) return;
  const MomentsHeader header = *statistic.moments.header;
  const double n = CountOf(header.count);
  const double* sums = statistic.moments.values();
  const auto lam = [&](int64_t c) { return Wire(sums[c], statistic.as_on_wire) / n; };
  const auto gam = [&](int64_t c) {
    return Wire(sums[layer.channels + c], statistic.as_on_wire) / n;
  };
  bool finite = true;
  for (int64_t c = threadIdx.x; c < layer.channels; c += blockDim.x) {
    finite &= static_cast<bool>(isfinite(lam(c))) && static_cast<bool>(isfinite(gam(c)));
  }
  // Not masked: the count is of padding, too, and the forward's says whether there was anything
  // else.
  const uint64_t valid = layer.masked_backward ? header.count : statistic.kept->repeated()->count;
  const bool moves = __syncthreads_and(finite) && header.failed == 0 && valid > 0;
  for (int64_t c = threadIdx.x; moves && c < layer.channels; c += blockDim.x) {
    const double e = ValueOr(layer.ema, c, 0);
    Store(layer.ema, c, e * (1 - (1 - layer.alpha_bkw) * gam(c)) + lam(c));
  }
}

// One block.  A thread reads and writes the ema of its own channels only.
__global__ void FoldGrad(PowerGradFold fold) {
  const PowerLayer& layer = fold.layer;
  const int64_t channels = layer.channels;
  PowerKept* const kept = fold.kept;
  MoveEma(layer, fold.before);
  // Of the step, before `now` is applied.
  PowerKept* const origin = kept->repeated();
  const bool exact = layer.paper && fold.wants_dx && kept->step != 0 &&
                     static_cast<int64_t>(kept->step) <= layer.warmup_iters &&
                     fold.now.moments.header != nullptr;
  const bool failed = exact ? fold.now.moments.header->failed != 0
                            : !layer.paper && kept->step != 0 && origin->failed != 0;
  for (int64_t c = threadIdx.x; fold.coefficients != nullptr && c < channels; c += blockDim.x) {
    const double invstd = kept->row(kInvstd, channels)[c];
    double correction = 0, root = invstd;
    if (kept->step != 0) {
      correction = (1 - layer.alpha_bkw) * ValueOr(layer.ema, c, 0);
      if (exact) {
        correction = Wire(fold.now.moments.values()[c], fold.now.as_on_wire) /
                     CountOf(fold.now.moments.header->count);
      }
      if (!layer.paper && origin->count > 0) {
        // A recomputation's statistic is that of the forward which it repeats.
        const double power = origin->row(kPower, channels)[c];
        root = InverseRoot(power, layer.eps);
      }
    }
    fold.coefficients[c] = failed ? NotANumber() : ValueOr(layer.weight, c, 1) * root;
    fold.coefficients[channels + c] =
        failed ? NotANumber() : -correction * fold.grad_scale * invstd * root;
  }
  MoveEma(layer, fold.now);
  if (threadIdx.x != 0) return;
  origin->backward_came = 1;
  if (fold.message.header != nullptr) fold.message.header->step = 0;
}

// A single block has to reach all channels quickly.
constexpr unsigned kOneBlock = 512;

}  // namespace

cudaError_t BeginPower(const PowerBegin& begin, const Launch& on) {
  return LaunchFold(Begin, begin, FoldBlocks(begin.layer.channels), on);
}

cudaError_t ApplyPowerForward(const PowerApplyForward& apply, const Launch& on) {
  return LaunchFold(ApplyForward, apply, 1, on, kOneBlock);
}

cudaError_t RecallPower(const PowerRecall& recall, const Launch& on) {
  return LaunchFold(Recall, recall, 1, on, kOneBlock);
}

cudaError_t MakePowerMessage(const PowerMessage& message, const Launch& on) {
  return LaunchFold(Message, message, FoldBlocks(message.layer.channels), on);
}

cudaError_t FoldPowerGrad(const PowerGradFold& fold, const Launch& on) {
  return LaunchFold(FoldGrad, fold, 1, on, kOneBlock);
}

}  // namespace syncnorm::kernels::cuda
