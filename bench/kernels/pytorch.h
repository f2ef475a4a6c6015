// PyTorch's batch norm on the CPU, one thread, as a peer.
//
// Thread-safety: none; one thread calls it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace syncnorm::bench {

struct PyTorchCalls {
  std::function<void()> forward;   // training: statistics, running statistics and y
  std::function<void()> backward;  // dx, and the gradients of weight and bias
};

// "1.13.1", or "" where the benchmark was built without LibTorch.
std::string PyTorchVersion();

// native_batch_norm of x of shape (N, C, H, W), and its backward.  Both are empty
// where this PyTorch does not do the dtype on the CPU.  x and dy stay the caller's.
PyTorchCalls PyTorchBatchNorm(void* x, void* dy, DType dtype, const std::vector<int64_t>& shape,
                              bool channels_last);

}  // namespace syncnorm::bench
