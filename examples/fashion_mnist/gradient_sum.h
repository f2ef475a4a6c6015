// GradientSum: data parallelism in a small class.  Every worker runs backward
// on its slice of a batch; the gradients are summed over the group in chunks,
// each sent as soon as the gradients in it are there, while backward goes on.
//
//   GradientSum gradients(network->parameters(), group);
//   gradients.Begin(step, images);
//   loss.backward();      // sends
//   gradients.Finish();   // every .grad is now the group's sum
//
// The sum is the gradient of the whole batch if each worker's loss is its
// slice's share of the batch's loss: the slice's sum over the *global* batch size.
//
// Precision: folded in float64; rounded once, to the parameters' type.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/reducer.h>
#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace syncnorm::examples {

class GradientSum {
 public:
  // `parameters`: in the order of the forward pass, of one floating type, each used once in a
  // forward.  `group` must outlive this, and this every backward of the parameters.
  GradientSum(std::vector<torch::Tensor> parameters, Reducer* group);
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  // Before a backward: the step, which is the same on all members, and how many images are in this
  // worker's slice.
  void Begin(uint64_t step, uint64_t images);
  // Waits for the sums and stores them into every .grad.  The images that took part in the last
  // chunk, the last that a step sends: of all slices, unless a member was lost on the way.
  // Otherwise the status of the first chunk that failed.
  absl::StatusOr<uint64_t> Finish();

 private:
  void Arrived(size_t index, const torch::Tensor& gradient);
  void Send(size_t begin, size_t end);

  std::vector<torch::Tensor> parameters_;  // last of the forward pass first
  std::vector<size_t> offsets_;            // of each parameter in flat_, and the end
  std::vector<bool> arrived_;
  Reducer* group_;
  Precision precision_;
  std::vector<double> flat_;
  size_t ready_ = 0;  // parameters that have arrived, counted without a gap
  size_t sent_ = 0;   // values of flat_
  uint64_t step_ = 0;
  uint64_t images_ = 0;
  std::vector<MomentsFuture> chunks_;
};

}  // namespace syncnorm::examples
