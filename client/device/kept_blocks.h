// The blocks of a layer's last training forwards, among which the device looks for the one that a
// recomputation repeats (kernels/cuda/fold.h).
//
// Thread-safety: thread-compatible, as their layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "client/device/block_pool.h"

namespace syncnorm::device {

class KeptBlocks {
 public:
  explicit KeptBlocks(int64_t capacity) : capacity_(static_cast<size_t>(capacity)) {}

  // Keeps a forward's, in the place of the oldest.
  void Keep(std::shared_ptr<Block> block, bool synchronised) {
    if (capacity_ == 0) return;
    if (kept_.size() == capacity_) kept_.pop_front();
    kept_.push_back({std::move(block), synchronised});
  }

  // Those of forwards that were synchronised, or not, as the recomputation is; newest first.
  std::vector<std::shared_ptr<Block>> Candidates(bool synchronised) const {
    std::vector<std::shared_ptr<Block>> candidates;
    for (auto kept = kept_.rbegin(); kept != kept_.rend(); ++kept) {
      if (kept->synchronised == synchronised) candidates.push_back(kept->block);
    }
    return candidates;
  }

 private:
  struct Kept {
    std::shared_ptr<Block> block;
    bool synchronised;
  };

  const size_t capacity_;
  std::deque<Kept> kept_;  // oldest first
};

}  // namespace syncnorm::device
