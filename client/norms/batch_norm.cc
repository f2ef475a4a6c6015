// The path of a tensor through batch normalisation, and of its gradient back.
// Creation, options and checkpoints: batch_norm_state.cc.
#include <syncnorm/batch_norm.h>

#include <algorithm>
#include <utility>

#include "client/norms/backend.h"
#include "client/norms/batch_norm_kept.h"
#include "client/norms/channels.h"
#include "client/norms/errors.h"
#include "client/norms/grid.h"
#include "client/norms/mask.h"
#include "client/norms/need_sync.h"

namespace syncnorm {
namespace {

using kernels::ConstSlab;
using kernels::Grid;
using kernels::Slab;
using norms::At;
using norms::Backend;
using norms::CheckLike;
using norms::CheckOwner;
using norms::DataOrNull;
using norms::GridOf;
using norms::InverseRoots;
using norms::Means;
using norms::PrecisionOf;
using norms::ValidPositions;
using norms::ValuesOr;

uint64_t LocalCount(const Grid& grid, const std::vector<uint8_t>& valid) {
  return static_cast<uint64_t>(valid.empty() ? grid.positions()
                                             : std::count(valid.begin(), valid.end(), 1));
}

}  // namespace

absl::Status SyncBatchNorm::Forward(const ConstTensor& x, const PositionMask* mask, const Tensor& y,
                                    Context* context) {
  // 1. What the caller gave, checked before anything is sent.
  const int64_t channels = options_.channels;
  if (absl::Status sizes = CheckParameters(); !sizes.ok()) return sizes;
  absl::StatusOr<Grid> grid = GridOf("x", x, channels);
  if (!grid.ok()) return At(name_, grid.status());
  if (absl::Status like = CheckLike("y", y, x, *grid); !like.ok()) return At(name_, like);
  auto valid = ValidPositions(mask, x.shape, grid->positions());
  if (!valid.ok()) return At(name_, valid.status());
  const ConstSlab in{x.data, x.dtype, *grid};
  const Slab out{y.data, y.dtype, *grid};
  Context now{.layer = name_, .x = x, .valid = *std::move(valid)};

  // 2. Mean and variance: the group's, this worker's, or the running ones.
  now.batch_statistics = training_ || !options_.track_running_stats;
  if (now.batch_statistics) {
    Moments local = Moments::MeanM2(channels, PrecisionOf(x.dtype));
    Backend().MeanM2(in, DataOrNull(now.valid), &local.count, local.row(0).data(),
                     local.row(1).data());
    const absl::Status taken = training_ && kept_->Recomputing()
                                   ? Recall(local, &now)
                                   : TakeStatistics(x.dtype, std::move(local), &now);
    if (!taken.ok()) return taken;
  } else {
    now.mean = running_mean_;
    now.invstd = InverseRoots(running_var_, options_.eps);
  }

  // 3. y = (x - mean) * (weight * invstd) + bias.
  std::vector<double> scale = ValuesOr(weight_, channels, 1);
  for (int64_t c = 0; c < channels; ++c) scale[c] *= now.invstd[c];
  const std::vector<double> shift = ValuesOr(bias_, channels, 0);
  Backend().Affine(in, DataOrNull(now.valid), now.mean.data(), scale.data(), shift.data(), out);
  if (context != nullptr) *context = std::move(now);
  return absl::OkStatus();
}

absl::Status SyncBatchNorm::TakeStatistics(DType dtype, Moments local, Context* now) {
  now->synchronised = need_sync();
  if (now->synchronised) now->step = ++steps_;
  const absl::StatusOr<Moments> global =
      now->synchronised ? group_->ReduceNow({name_, Direction::kForward, now->step, dtype}, local)
                        : ReduceAlone(local);
  if (!global.ok()) return global.status();
  now->count = global->count;
  now->mean.assign(global->row(0).begin(), global->row(0).end());
  now->invstd = InverseRoots(Means(global->row(1), global->count), options_.eps);
  if (!training_) return absl::OkStatus();
  if (options_.track_running_stats) MoveRunningStatistics(*global);
  now->forward = kept_->Keep(std::move(local),
                             {now->synchronised, now->step, now->count, now->mean, now->invstd});
  return absl::OkStatus();
}

// What the forward that this one repeats took.
absl::Status SyncBatchNorm::Recall(const Moments& local, Context* now) const {
  const auto* kept = kept_->Find(local);
  if (kept == nullptr) return kept_->NotFound(name_);
  now->forward = kept->number;
  now->synchronised = kept->forward.synchronised;
  now->step = kept->forward.step;
  now->count = kept->forward.count;
  now->mean = kept->forward.mean;
  now->invstd = kept->forward.invstd;
  return absl::OkStatus();
}

// Normalising uses the biased variance, M2 / n; kept is the unbiased one, M2 / (n - 1),
// which one value does not have.
void SyncBatchNorm::MoveRunningStatistics(const Moments& global) {
  if (global.count == 0) return;
  ++num_batches_tracked_;
  const double n = static_cast<double>(global.count);
  const double f = options_.momentum.value_or(1.0 / static_cast<double>(num_batches_tracked_));
  for (int64_t c = 0; c < options_.channels; ++c) {
    running_mean_[c] = (1 - f) * running_mean_[c] + f * global.row(0)[c];
    if (global.count == 1) continue;
    running_var_[c] = (1 - f) * running_var_[c] + f * (global.row(1)[c] / (n - 1));
  }
}

// dx = weight * s * (dy - Sdy / n - (x - mean) * s^2 * Sdyxmu / n), s = invstd; the two sums
// are the group's.  With running statistics mean and s are constants: dx = weight * s * dy.
absl::Status SyncBatchNorm::Backward(const Context& context, const ConstTensor& dy,
                                     const Tensor* dx, Gradients* gradients) {
  // 1. What the caller gave, checked before anything is sent.
  const int64_t channels = options_.channels;
  if (absl::Status sizes = CheckParameters(); !sizes.ok()) return sizes;
  if (absl::Status owner = CheckOwner(name_, context.layer); !owner.ok()) return owner;
  const ConstTensor& x = context.x;
  absl::StatusOr<Grid> grid = GridOf("the context's x", x, channels);
  if (!grid.ok()) return At(name_, grid.status());
  if (absl::Status like = CheckLike("dy", dy, x, *grid); !like.ok()) return At(name_, like);
  if (dx != nullptr) {
    if (absl::Status like = CheckLike("dx", *dx, x, *grid); !like.ok()) return At(name_, like);
  }
  const ConstSlab in{x.data, x.dtype, *grid};
  const ConstSlab gradient{dy.data, dy.dtype, *grid};
  const uint8_t* valid = DataOrNull(context.valid);
  kept_->BackwardCame(context.forward);

  // 2. This worker's sums, which are the gradients of bias and, times s, of weight.
  Moments local = Moments::Sums(2, channels, PrecisionOf(x.dtype));
  local.count = LocalCount(*grid, context.valid);
  Backend().GradSums(in, gradient, valid, context.mean.data(), local.row(0).data(),
                     local.row(1).data());
  if (gradients != nullptr) {
    *gradients = {};
    for (int64_t c = 0; options_.affine && c < channels; ++c) {
      gradients->weight.push_back(local.row(1)[c] * context.invstd[c]);
      gradients->bias.push_back(local.row(0)[c]);
    }
  }
  if (dx == nullptr) return absl::OkStatus();

  // 3. The group's sums, and dx = a * dy + b * (x - mean) + d.
  //    Of one value y = bias, whatever it is: dx is exactly 0, not a rounding of it.
  const bool constant = context.batch_statistics && context.count == 1;
  std::vector<double> a = ValuesOr(weight_, channels, 1), b(channels), d(channels);
  for (int64_t c = 0; c < channels; ++c) a[c] *= constant ? 0 : context.invstd[c];
  if (context.batch_statistics) {
    const absl::StatusOr<Moments> global =
        context.synchronised
            ? group_->ReduceNow({name_, Direction::kBackward, context.step, x.dtype}, local)
            : ReduceAlone(local);
    if (!global.ok()) return global.status();
    const std::vector<double> mean_dy = Means(global->row(0), context.count);
    const std::vector<double> mean_dy_xmu = Means(global->row(1), context.count);
    for (int64_t c = 0; c < channels; ++c) {
      b[c] = -a[c] * context.invstd[c] * context.invstd[c] * mean_dy_xmu[c];
      d[c] = -a[c] * mean_dy[c];
    }
  }
  Backend().Grad(in, gradient, valid, context.mean.data(), a.data(), b.data(), d.data(),
                 Slab{dx->data, dx->dtype, *grid});
  return absl::OkStatus();
}

bool SyncBatchNorm::need_sync() const { return norms::NeedSync(training_, group_); }

}  // namespace syncnorm
