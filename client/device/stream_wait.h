// How a stream waits for a word in pinned memory to reach a value.
//
// Stream memory: the driver polls; nothing is held.  Host function: a thread of the driver
// waits in it.  The driver may run the host functions of all streams one after another, so one
// that waits can hold up the others; Lane orders its waits so that no wait ever holds up what it
// waits for.
//
// Thread-safety: thread-safe.
#pragma once

#include <cuda_runtime_api.h>
#include <syncnorm/device.h>

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm::device {

// A counter that only grows (modulo 2^32), published to the host and to streams.
struct Flag {
  uint32_t* word = nullptr;          // in pinned memory: what streams look at
  std::atomic<uint32_t> value{0};    // the same, for the host
  std::atomic<uint32_t> waiting{0};  // host functions that were enqueued and have not returned
  uint32_t host_target = 0;          // what they wait for

  // Makes everything that was written before visible, then the value.
  void Publish(uint32_t to);
  bool Reached(uint32_t target) const {
    return Reached(value.load(std::memory_order_acquire), target);
  }
  static bool Reached(uint32_t value, uint32_t target) {
    return static_cast<int32_t>(value - target) >= 0;
  }
  // Blocks the calling thread.
  void Wait(uint32_t target) const;
};

class StreamWait {
 public:
  // kUnimplemented: `waiting` is kStreamMemory, and the driver has none.
  static absl::StatusOr<StreamWait> Make(StreamWaiting waiting);

  StreamWaiting waiting() const {
    return wait_value_ == nullptr ? StreamWaiting::kHostFunction : StreamWaiting::kStreamMemory;
  }
  // Work enqueued on `stream` afterwards starts once `flag` has reached `target`.  `flag` must live
  // and not be given another target until then.
  absl::Status Enqueue(Flag* flag, uint32_t target, cudaStream_t stream) const;

 private:
  using WaitValue = int (*)(cudaStream_t, uintptr_t, uint32_t, unsigned);
  WaitValue wait_value_ = nullptr;  // cuStreamWaitValue32
};

}  // namespace syncnorm::device
