// Blocks of device memory that a layer's calls use and give back.
//
//   in use ---- last handle gone ----> free ---- Acquire (on any stream) ----> in use
//
// A block is ordered by events, not by waiting: whoever uses one says so with Used(stream), and the
// stream that acquires it next waits (on the device) for that.  One that comes back without, from a
// call that failed, may be in use for nobody knows how long, and is freed.  A block that a CUDA
// graph has uses, new or not, is never given to anybody else, since the graph may be launched at
// any time: it lives until the pool and all handles are gone.
//
// Thread-safety: BlockPool is thread-safe; a Block is thread-compatible.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "client/device/memory.h"

namespace syncnorm::device {

class Block {
 public:
  char* data() const { return buffer_.data(); }
  // What was enqueued on `stream` until now uses this block; `capturing`: what the graph will do.
  absl::Status Used(cudaStream_t stream, bool capturing);
  // It was left half used: nobody else gets it.
  void Discard() { discarded_ = true; }

 private:
  friend class BlockPool;
  DeviceBuffer buffer_;
  Event used_;
  bool told_ = false;      // somebody has said so, since it was acquired
  bool recorded_ = false;  // used_ has been
  bool captured_ = false;
  bool discarded_ = false;
  cudaStream_t last_ = nullptr;
};

// Of one device.
class BlockPool : public std::enable_shared_from_this<BlockPool> {
 public:
  explicit BlockPool(int device) : device_(device) {}

  int device() const { return device_; }
  // A block of at least `bytes`, ordered on `stream`.  New memory is zero; used memory is as it was
  // left.  The pool's device is current.
  absl::StatusOr<std::shared_ptr<Block>> Acquire(size_t bytes, cudaStream_t stream, bool capturing);

 private:
  void GiveBack(std::unique_ptr<Block> block);

  const int device_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Block>> free_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Block>> captured_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace syncnorm::device
