#include "client/device/block_pool.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "client/device/cuda_status.h"

namespace syncnorm::device {
namespace {

// Blocks come in sizes of 4 to 8 eighths of a power of two: at most a fifth is wasted, and a
// request takes a block of just its size, so that which blocks exist after a step does not depend
// on the order of the calls.
size_t Rounded(size_t bytes) {
  const size_t step = std::max<size_t>(std::bit_ceil(bytes) / 8, 64);
  return (bytes + step - 1) / step * step;
}

}  // namespace

absl::Status Block::Used(cudaStream_t stream, bool capturing) {
  last_ = stream;
  captured_ |= capturing;
  if (captured_) return absl::OkStatus();  // an event would become the graph's
  if (cudaError_t error = cudaEventRecord(used_.get(), stream); error != cudaSuccess) {
    told_ = false;
    return CudaStatus(error, "recording an event");
  }
  told_ = recorded_ = true;
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Block>> BlockPool::Acquire(size_t bytes, cudaStream_t stream,
                                                          bool capturing) {
  std::unique_ptr<Block> block;
  bytes = Rounded(bytes);
  if (!capturing) {
    // Best one that this stream used last.
    absl::MutexLock lock(&mutex_);
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if ((*it)->buffer_.bytes() != bytes) continue;
      if (best == free_.end() || (*it)->last_ == stream) best = it;
    }
    if (best != free_.end()) {
      block = std::move(*best);
      free_.erase(best);
    }
  }
  if (block == nullptr) {
    block = std::make_unique<Block>();
    absl::StatusOr<DeviceBuffer> buffer = DeviceBuffer::Make(bytes, stream, capturing);
    if (!buffer.ok()) return buffer.status();
    absl::StatusOr<Event> event = Event::Make();
    if (!event.ok()) return event.status();
    block->buffer_ = *std::move(buffer);
    block->used_ = *std::move(event);
    block->captured_ = capturing;
  } else if (block->recorded_) {
    if (cudaError_t error = cudaStreamWaitEvent(stream, block->used_.get(), 0);
        error != cudaSuccess) {
      GiveBack(std::move(block));  // still as it was told
      return CudaStatus(error, "waiting for the last use of a block");
    }
  }
  block->told_ = false;
  return std::shared_ptr<Block>(block.release(), [pool = shared_from_this()](Block* used) {
    pool->GiveBack(std::unique_ptr<Block>(used));
  });
}

void BlockPool::GiveBack(std::unique_ptr<Block> block) {
  if ((block->discarded_ || !block->told_) && !block->captured_) return;
  absl::MutexLock lock(&mutex_);
  (block->captured_ ? captured_ : free_).push_back(std::move(block));
}

}  // namespace syncnorm::device
