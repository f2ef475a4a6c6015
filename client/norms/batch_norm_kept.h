// What SyncBatchNorm keeps of a forward for its recomputation.
//
// Thread-safety: a plain value.
#pragma once

#include <syncnorm/batch_norm.h>

#include <cstdint>
#include <vector>

#include "client/norms/kept_forwards.h"

namespace syncnorm {

struct KeptBatch {
  bool synchronised = false;
  uint64_t step = 0;
  uint64_t count = 0;  // global
  std::vector<double> mean, invstd;
};

struct SyncBatchNorm::Kept : norms::KeptForwards<KeptBatch> {
  using KeptForwards::KeptForwards;
};

}  // namespace syncnorm
