// The path of a tensor through PowerNorm, and of its gradient back.  Names as in
// docs/numerics.md: v, phi, g, z, nu, Lam, Gam.  When statistics are applied:
// power_norm_schedule.cc.  Creation, options and checkpoints: power_norm_state.cc.
#include <syncnorm/power_norm.h>

#include <cmath>
#include <utility>

#include "client/norms/backend.h"
#include "client/norms/channels.h"
#include "client/norms/errors.h"
#include "client/norms/grid.h"
#include "client/norms/mask.h"
#include "client/norms/power_norm_pending.h"

namespace syncnorm {
namespace {

using kernels::ConstSlab;
using kernels::Grid;
using kernels::Slab;
using norms::At;
using norms::Backend;
using norms::CheckLike;
using norms::DataOrNull;
using norms::InverseRoots;
using norms::PrecisionOf;
using norms::TokenGridOf;
using norms::ValidTokens;
using norms::ValuesOr;

}  // namespace

absl::Status SyncPowerNorm::Forward(const ConstTensor& x, const uint8_t* pad_mask, const Tensor& y,
                                    Context* context) {
  // 1. What the caller gave, checked before anything is sent.
  const int64_t channels = options_.channels, groups = options_.groups;
  if (absl::Status sizes = CheckParameters(); !sizes.ok()) return sizes;
  absl::StatusOr<Grid> grid = TokenGridOf("x", x, channels);
  if (!grid.ok()) return At(name_, grid.status());
  if (absl::Status like = CheckLike("y", y, x, *grid); !like.ok()) return At(name_, like);
  const int64_t times = x.shape.size() == 3 ? x.shape[0] : 1;
  auto valid = ValidTokens(training_ ? pad_mask : nullptr, times, x.shape[x.shape.size() - 2]);
  if (!valid.ok()) return At(name_, valid.status());

  // 2. Step t needs phi_{t-1}, eval the last phi, a recomputation neither; and all the group
  //    scaling r, xs = x * r.
  const bool recomputes = training_ && kept_->Recomputing();
  const absl::Status ready = !training_   ? CheckDrained("an eval Forward")
                             : recomputes ? absl::OkStatus()
                                          : CollectForward();
  if (!ready.ok()) return ready;
  const ConstSlab in{x.data, x.dtype, *grid};
  Context now{.layer = name_, .x = x, .valid = *std::move(valid), .training = training_};
  now.group_scale.resize(static_cast<size_t>(grid->positions() * groups));
  const double* r = now.group_scale.data();
  Backend().GroupScale(in, groups, options_.group_eps, now.group_scale.data());

  // 3. The statistic v_t: this worker's sums leave; in warm-up the group's are needed.
  if (training_) {
    Moments local = Moments::Sums(1, channels, PrecisionOf(x.dtype));
    Backend().PowerSums(in, r, groups, DataOrNull(now.valid), &local.count, local.row(0).data());
    const absl::Status sent =
        recomputes ? Recall(local, &now) : SendStatistic(x.dtype, std::move(local), &now);
    if (!sent.ok()) return sent;
  } else {
    now.invstd = InverseRoots(phi_, options_.eps);
  }

  // 4. y = weight * xs / sqrt(v_t or phi_{t-1} + eps) + bias.
  std::vector<double> scale = ValuesOr(weight_, channels, 1);
  for (int64_t c = 0; c < channels; ++c) scale[c] *= now.invstd[c];
  const std::vector<double> shift = ValuesOr(bias_, channels, 0);
  Backend().PowerApply(in, r, groups, scale.data(), shift.data(), Slab{y.data, y.dtype, *grid});
  if (context != nullptr) *context = std::move(now);
  return absl::OkStatus();
}

// With g = weight * dy and z = xs * invstd:  dxs = (g - c * z) / sqrt(q + eps), then through
// the group scaling.  Correction c: nu_{t-1}, or this step's Lam (paper, warm-up).  q: v_t
// (reference), or what the forward used.  In eval the root is a constant: c = 0.
absl::Status SyncPowerNorm::Backward(const Context& context, const ConstTensor& dy,
                                     const Tensor* dx, Gradients* gradients, double grad_scale) {
  // 1. What the caller gave, checked before anything is sent.
  const int64_t channels = options_.channels, groups = options_.groups;
  if (absl::Status sizes = CheckParameters(); !sizes.ok()) return sizes;
  if (absl::Status owner = CheckOwner(context, grad_scale); !owner.ok()) return owner;
  const ConstTensor& x = context.x;
  absl::StatusOr<Grid> grid = TokenGridOf("the context's x", x, channels);
  if (!grid.ok()) return At(name_, grid.status());
  if (absl::Status like = CheckLike("dy", dy, x, *grid); !like.ok()) return At(name_, like);
  if (dx != nullptr) {
    if (absl::Status like = CheckLike("dx", *dx, x, *grid); !like.ok()) return At(name_, like);
  }
  const ConstSlab in{x.data, x.dtype, *grid};
  const ConstSlab gradient{dy.data, dy.dtype, *grid};
  const double* r = context.group_scale.data();
  const std::vector<double> weight = ValuesOr(weight_, channels, 1);
  kept_->BackwardCame(context.forward);

  // 2. Sums over all positions, the gradients of bias and, times invstd, of weight; and, where
  //    padding is left out of the statistic, those over the others.
  const uint8_t* valid = masked_backward() ? DataOrNull(context.valid) : nullptr;
  std::vector<double> sum_dy(channels), sum_dy_xs(channels), sum_xs2(channels);
  uint64_t count = 0;
  const auto sum_over = [&](const uint8_t* positions) {
    Backend().PowerGradSums(in, r, groups, gradient, positions, &count, sum_dy.data(),
                            sum_dy_xs.data(), sum_xs2.data());
  };
  if (gradients != nullptr) {
    sum_over(nullptr);
    *gradients = {};
    for (int64_t c = 0; options_.affine && c < channels; ++c) {
      gradients->weight.push_back(sum_dy_xs[c] * context.invstd[c]);
      gradients->bias.push_back(sum_dy[c]);
    }
  }
  if (context.training && (gradients == nullptr || valid != nullptr)) sum_over(valid);

  // 3. The statistic: sum g z and sum z^2 leave, and what this step needs is collected.
  std::vector<double> correction(channels), root = context.invstd;
  if (context.training) {
    const bool reference = options_.semantics == PowerNormSemantics::kReference;
    const bool exact =
        !reference && dx != nullptr && static_cast<int64_t>(context.step) <= options_.warmup_iters;
    Moments local = Moments::Sums(2, channels, PrecisionOf(x.dtype));
    local.count = count;
    for (int64_t c = 0; c < channels; ++c) {
      local.row(0)[c] = weight[c] * context.invstd[c] * sum_dy_xs[c] / grad_scale;
      local.row(1)[c] = context.invstd[c] * context.invstd[c] * sum_xs2[c];
    }
    MomentsFuture future = Submit({name_, Direction::kBackward, context.step, x.dtype}, local,
                                  context.synchronised, exact || blocking());
    if (absl::Status nu = CollectBackward(); !nu.ok()) return nu;
    for (int64_t c = 0; c < channels; ++c) correction[c] = (1 - options_.alpha_bkw) * ema_[c];
    pending_->backward = std::move(future);
    pending_->backward_forward = context.statistic;
    if (exact || !context.synchronised || blocking()) {
      if (absl::Status here = CollectBackward(exact ? &correction : nullptr); !here.ok()) {
        return here;
      }
    }
    if (reference && dx != nullptr) {
      if (pending_->forward == context.statistic) CollectForward().IgnoreError();
      if (!context.statistic->status.ok()) return context.statistic->status;
      if (context.statistic->count > 0) root = InverseRoots(context.statistic->power, options_.eps);
    }
  }
  if (dx == nullptr) return absl::OkStatus();

  // 4. dx, by a * dy + b * xs.
  std::vector<double> a(channels), b(channels);
  for (int64_t c = 0; c < channels; ++c) {
    a[c] = weight[c] * root[c];
    b[c] = -correction[c] * grad_scale * context.invstd[c] * root[c];
  }
  Backend().PowerGrad(in, r, groups, gradient, valid, a.data(), b.data(),
                      Slab{dx->data, dx->dtype, *grid});
  return absl::OkStatus();
}

}  // namespace syncnorm
