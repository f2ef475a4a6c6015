// The peer, where LibTorch is not installed: nothing to compare with.
#include "bench/kernels/pytorch.h"

namespace syncnorm::bench {

std::string PyTorchVersion() { return ""; }

PyTorchCalls PyTorchBatchNorm(void*, void*, DType, const std::vector<int64_t>&, bool) { return {}; }

}  // namespace syncnorm::bench
