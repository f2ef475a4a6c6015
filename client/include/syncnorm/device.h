// DeviceReducer: a group's rounds, fed by CUDA streams.  The tensor never leaves the device, and
// the CPU never waits for it: a layer enqueues its kernels and returns.
//
//   stream        statistics - copy out - (event)      (wait) - fold in - normalise - ...
//                                 |           |           ^
//   pinned memory                 v           v           |
//   sender thread             [ moments ] -> Reduce       |
//   receiver thread                             result -> [ moments ], flag
//
// DeviceBatchNorm and DevicePowerNorm are the layers that use it.  Layers on the CPU may be
// created over it, too: it is a Reducer, and keeps the order of calls, whoever makes them.
//
// Callers may rely on:
//   * Order.  Rounds are those of the calls, over all streams and devices of the process.
//   * No host wait.  Forward and Backward of the layers enqueue and return: no synchronisation, no
//     blocking copy; no allocation of device or pinned memory once every shape has been seen with
//     as many rounds under way.
//   * Streams.  They are the caller's.  Work of one layer on several streams is ordered by the
//     library where they share its memory, and by the caller where they share a tensor.
//   * Failures.  A round that fails releases the stream at once: what depends on it becomes NaN,
//   running
//     statistics do not move, the stream goes on.  The status, with the names that it has on the
//     CPU, comes out of the layer's next call, or out of Check(), whichever is first, once.
//     After the stream has been synchronised, every failure before that point is known to Check().
//   * Deadlines.  A round's time runs from the moment at which its moments left the device.
//   * Graphs.  A forward or backward that needs a round cannot be captured into a CUDA graph
//     (kFailedPrecondition): a graph repeats its operations, but every round is its own.  In eval
//     mode and on the local path everything can.
//
// Memory, beside the caller's tensors: docs/gpu.md has the arithmetic.
//
// fork(): CUDA does not survive it.  In a child an inherited DeviceReducer does nothing, and leaks.
//
// Thread-safety: thread-safe; layers are thread-compatible, and the order of rounds is that of
// the calls.
#pragma once

#include <syncnorm/reducer.h>
#include <syncnorm/tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

// What CUDA calls cudaStream_t.
struct CUstream_st;

namespace syncnorm {

using DeviceStream = CUstream_st*;

// A tensor of C values on a device: a parameter, its gradient, or a running statistic.
struct DeviceValues {
  void* data = nullptr;  // null: there is none
  DType dtype = DType::kF32;
};

// How a stream waits for a result.
enum class StreamWaiting : uint8_t {
  kBest = 0,          // kStreamMemory where the driver has it
  kStreamMemory = 1,  // a wait of the stream on a word in pinned memory: no thread is held
  kHostFunction = 2,  // a function of the host that the stream calls, which waits
};

struct DeviceReducerOptions {
  StreamWaiting waiting = StreamWaiting::kBest;
};

// What a DeviceReducer and its layers have done, since it was made.
struct DeviceCounters {
  uint64_t rounds = 0;        // contributed from streams
  uint64_t results = 0;       // of those, that have come back, failures included
  uint64_t stream_waits = 0;  // waits put into streams: for results that were not there yet
};

// Device and pinned memory that this library holds in this process now, and how often it asked for
// some.
struct DeviceMemory {
  uint64_t device_bytes = 0;
  uint64_t pinned_bytes = 0;
  uint64_t allocations = 0;  // ever
};
DeviceMemory DeviceMemoryInUse();

class Lane;

// Whether layers can be made on a device of this process.
//   kUnavailable       there is no device, or no driver that this CUDA runtime can use (CUDA's
//   words); kInvalidArgument   there are fewer devices.
absl::Status CheckDevice(int device);

class DeviceReducer final : public Reducer {
 public:
  // `group` must outlive this, and this its layers.
  //   kUnavailable         there is no device, or no driver (CUDA's words);
  //   kUnimplemented       kStreamMemory, which the driver does not have.
  static absl::StatusOr<std::unique_ptr<DeviceReducer>> Create(Reducer* group,
                                                               DeviceReducerOptions options = {});
  // Waits until every round that was submitted has ended.
  ~DeviceReducer() override;

  // The oldest failure that no call has told yet; OK if there is none.
  absl::Status Check();
  // Waits until every round that was submitted has come back, failures included; false if that
  // takes longer than `timeout`.
  bool WaitForResults(absl::Duration timeout) const;
  DeviceCounters counters() const;
  StreamWaiting waiting() const;

  // For layers on the CPU.
  int world_size() const override;
  bool connected() const override;
  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments) override;
  absl::StatusOr<Moments> ReduceNow(const ReduceKey& key, const Moments& moments) override;
  absl::Status AddLayer(const std::string& name, LayerState* state) override;
  void RemoveLayer(const std::string& name) override;

  Lane* lane() const { return lane_.get(); }  // for the layers of this library

 private:
  explicit DeviceReducer(std::unique_ptr<Lane> lane);
  std::unique_ptr<Lane> lane_;
};

}  // namespace syncnorm
