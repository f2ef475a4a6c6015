// Activation checkpointing, as PyTorch's reentrant one does it, which LibTorch lacks in C++:
// the segment runs without a graph; in the backward it runs again with one, and the
// gradients go back through that.
#pragma once

#include <torch/types.h>

#include <functional>

namespace syncnorm::testing {

using Segment = std::function<torch::Tensor(const torch::Tensor&)>;

// segment(x); gradients of parameters in it are added to their .grad.  x must need a gradient.
torch::Tensor Checkpoint(const Segment& segment, const torch::Tensor& x);

}  // namespace syncnorm::testing
