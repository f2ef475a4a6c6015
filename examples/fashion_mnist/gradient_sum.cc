#include "examples/fashion_mnist/gradient_sum.h"

#include <torch/torch.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace syncnorm::examples {
namespace {

// 64 KiB of float32: large enough that a chunk's cost is its bytes, not its round
// trip, and small enough that a layer's gradients leave while the layer before is computed.
constexpr size_t kChunkValues = 16384;

}  // namespace

GradientSum::GradientSum(std::vector<torch::Tensor> parameters, Reducer* group)
    : parameters_(parameters.rbegin(), parameters.rend()),
      arrived_(parameters.size()),
      group_(group),
      precision_(parameters.front().scalar_type() == torch::kDouble ? Precision::kF64
                                                                    : Precision::kF32) {
  size_t offset = 0;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    offsets_.push_back(offset);
    offset += parameters_[i].numel();
    parameters_[i].register_hook(
        [this, i](const torch::Tensor& gradient) { Arrived(i, gradient); });
  }
  offsets_.push_back(offset);
  flat_.resize(offset);
}

void GradientSum::Begin(uint64_t step, uint64_t images) {
  step_ = step;
  images_ = images;
}

void GradientSum::Arrived(size_t index, const torch::Tensor& gradient) {
  const torch::Tensor values = gradient.to(torch::kDouble).contiguous();
  std::copy_n(values.data_ptr<double>(), values.numel(), flat_.begin() + offsets_[index]);
  arrived_[index] = true;
  while (ready_ < arrived_.size() && arrived_[ready_]) ++ready_;
  // All members run the same graph, so they send in the same order.
  while (offsets_[ready_] - sent_ >= kChunkValues) Send(sent_, sent_ + kChunkValues);
  if (ready_ == parameters_.size() && sent_ < flat_.size()) Send(sent_, flat_.size());
}

void GradientSum::Send(size_t begin, size_t end) {
  Moments sums = Moments::Sums(1, end - begin, precision_);
  sums.count = images_;
  std::copy(flat_.begin() + begin, flat_.begin() + end, sums.values.begin());
  ReduceKey key;
  key.layer = absl::StrCat("gradients/", chunks_.size());
  key.step = step_;
  chunks_.push_back(group_->Reduce(key, sums));
  sent_ = end;
}

absl::StatusOr<uint64_t> GradientSum::Finish() {
  absl::Status status;
  uint64_t images = 0;
  if (sent_ != flat_.size()) {
    status = absl::FailedPreconditionError("a parameter took no part in this backward");
  }
  size_t begin = 0;
  for (MomentsFuture& chunk : chunks_) {
    const absl::StatusOr<Moments> sums = chunk.Wait();
    status.Update(sums.status());
    if (!status.ok()) continue;
    std::copy(sums->values.begin(), sums->values.end(), flat_.begin() + begin);
    begin += sums->values.size();
    images = sums->count;
  }
  for (size_t i = 0; status.ok() && i < parameters_.size(); ++i) {
    torch::Tensor& gradient = parameters_[i].mutable_grad();
    gradient.copy_(torch::from_blob(flat_.data() + offsets_[i], gradient.sizes(), torch::kDouble));
  }
  chunks_.clear();
  std::fill(arrived_.begin(), arrived_.end(), false);
  ready_ = sent_ = 0;
  if (!status.ok()) return status;
  return images;
}

}  // namespace syncnorm::examples
