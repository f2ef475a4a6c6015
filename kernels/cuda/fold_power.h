// As fold.h, for PowerNorm: statistics are applied to the running ones, and the coefficients of the
// next map come out.  Names as in docs/numerics.md.
//
// Whether a statistic moves anything (it is finite, and not all was padding), and whether a step
// still is one of the warm-up, is decided here, from the group's moments and the layer's iters,
// alike on every member.  One block does a layer, since that decision is of all channels.
//
// Thread-safety: pure functions.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fold.h"

namespace syncnorm::kernels::cuda {

// What a forward leaves on the device for its backward and for its recomputations.  Behind it
// lies more:
//
//   | PowerKept | local moments: header, sum xs^2 | invstd | power | scale | shift |
//
// the latter C doubles each.  y = xs * scale + shift; invstd: of the statistic that the forward
// used; power: v_t, once it was applied.
struct PowerKept {
  uint64_t count;          // global, of v_t; 0: not applied, all was padding, or it failed
  uint64_t step;           // t; 0: a recomputation that found nothing, or eval
  uint64_t backward_came;  // not 0: it has had one
  uint64_t ticket;         // BatchNormKept's, which finds 0 in a block that was one of these
  PowerKept* origin;       // as BatchNormKept's
  uint64_t failed;         // not 0: its round has
  uint64_t unused[2];      // as long as BatchNormKept, so that the headers are at one place

  SYNCNORM_BOTH PowerKept* repeated() { return origin == nullptr ? this : origin; }
  SYNCNORM_BOTH MomentsView local() { return {reinterpret_cast<MomentsHeader*>(this + 1)}; }
  SYNCNORM_BOTH double* row(int64_t row, int64_t channels) {
    return local().values() + (1 + row) * channels;
  }
  static constexpr size_t Bytes(int64_t channels) {
    return sizeof(PowerKept) + MomentsView::Bytes(5, channels);
  }
};
static_assert(sizeof(PowerKept) == sizeof(BatchNormKept) &&
              offsetof(PowerKept, ticket) == offsetof(BatchNormKept, ticket));

// A layer: its options and where its tensors are.
struct PowerLayer {
  int64_t channels = 0;
  double eps = 0;
  double alpha_fwd = 0;
  double alpha_bkw = 0;
  int64_t warmup_iters = 0;
  bool paper = false;  // semantics
  bool masked_backward = false;
  Values weight, bias;
  Values phi, ema;  // running_phi and ema_gz
  int64_t* iters = nullptr;
};

// The beginning of a step: t = iters + 1 goes to `kept` and to its local moments' header, and the
// coefficients are those of phi.  `training` not: eval, the coefficients only.
struct PowerBegin {
  PowerLayer layer;
  bool training = false;
  PowerKept* kept = nullptr;
};
cudaError_t BeginPower(const PowerBegin& begin, const Launch& on);

// A forward statistic has come: `kept` takes it, phi and iters move.  `coefficients`: and the
// forward uses it, if its step is one of the warm-up; otherwise phi as it was before.
struct PowerApplyForward {
  PowerLayer layer;
  MomentsView moments;  // row: sum xs^2
  bool as_on_wire = false;
  bool coefficients = false;
  PowerKept* kept = nullptr;
  uint64_t* bad = nullptr;  // as BatchNormFold
};
cudaError_t ApplyPowerForward(const PowerApplyForward& apply, const Launch& on);

// As RecallBatchNorm: the coefficients are those that the found forward used.
struct PowerRecall {
  PowerLayer layer;
  PowerKept* kept = nullptr;
  uint64_t* bad = nullptr;
  uint64_t* missed = nullptr;
  int candidates = 0;  // newest first
  PowerKept* candidate[kMostRecalled] = {};
};
cudaError_t RecallPower(const PowerRecall& recall, const Launch& on);

// This worker's sums of a backward: the message (sum g z, sum z^2), and the gradients of weight
// and bias.
struct PowerMessage {
  PowerLayer layer;
  PowerKept* kept = nullptr;
  double grad_scale = 1;
  // Over all positions: sum dy, sum dy * xs; C doubles each.  Null: no gradients.
  const double* all = nullptr;
  Values grad_weight, grad_bias;
  // Over the statistic's positions: sum dy, sum dy * xs, sum xs^2.  Null: no message (eval).
  const double* counted = nullptr;
  MomentsView message;  // two rows; its header's count is there already, its step is written
};
cudaError_t MakePowerMessage(const PowerMessage& message, const Launch& on);

// A backward statistic has come: ema moves.
struct PowerBackwardStatistic {
  MomentsView moments;  // rows: sum g z, sum z^2; null header: none
  bool as_on_wire = false;
  PowerKept* kept = nullptr;  // of its step
};
// Applies `before`, takes the correction, applies `now`, and gives a and b of PowerGrad.
struct PowerGradFold {
  PowerLayer layer;
  PowerBackwardStatistic before, now;
  PowerKept* kept = nullptr;
  double grad_scale = 1;
  bool wants_dx = false;  // with it `now` is this step's Lam, where the semantics use it
  MomentsView message;    // of this backward; its header is as for the next one afterwards; or null
  double* coefficients = nullptr;  // a and b, C each; null: only the statistics
};
cudaError_t FoldPowerGrad(const PowerGradFold& fold, const Launch& on);

}  // namespace syncnorm::kernels::cuda
