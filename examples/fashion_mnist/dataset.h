// Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 in ten classes, as the
// gzipped IDX files that it is published in (Debian: dataset-fashion-mnist).
//
// Thread-safety: plain values.
#pragma once

#include <torch/types.h>

#include <string>

#include "absl/status/statusor.h"

namespace syncnorm::examples {

struct Dataset {
  torch::Tensor images;  // (N, 1, 28, 28) uint8
  torch::Tensor labels;  // (N) int64

  int64_t size() const { return labels.size(0); }
  // The images at `indices` (int64), standardised, in `dtype`.
  torch::Tensor Inputs(const torch::Tensor& indices, torch::Dtype dtype) const;
};

// `part`: "train" or "t10k".  kNotFound and kDataLoss name the file.
absl::StatusOr<Dataset> LoadFashionMnist(const std::string& directory, const std::string& part);

}  // namespace syncnorm::examples
