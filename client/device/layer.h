// DeviceLayer: what the layers on a device share: where they are, what memory they use, and how
// failures of earlier calls come out of the next one.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cuda_runtime_api.h>
#include <syncnorm/device.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/device/block_pool.h"
#include "client/device/lane.h"
#include "client/device/memory.h"
#include "kernels/cuda/fold.h"

namespace syncnorm::device {

// One call of a layer: on which stream, whether that is being captured, and the launches' place.
struct Call {
  cudaStream_t stream = nullptr;
  bool capturing = false;
  kernels::cuda::Launch on;
};

// What kernels tell the host, in pinned memory; 0: nothing.
struct Notes {
  uint64_t bad;     // 1-based position of a mask's wrong value, on the local path
  uint64_t missed;  // a recomputation on the local path found no forward
};

class DeviceLayer {
 public:
  // `lane` may be null: always local.  kInvalidArgument: there is no such device.
  static absl::StatusOr<std::unique_ptr<DeviceLayer>> Make(std::string name, int device,
                                                           Lane* lane);

  const std::string& name() const { return name_; }
  int device() const { return device_; }
  Lane* lane() const { return lane_; }
  Notes* notes() const { return reinterpret_cast<Notes*>(notes_.data()); }

  // Before anything else in a call, with the layer's device current.
  //   what an earlier call failed with, later: once;
  //   kFailedPrecondition   `synchronises`, and the stream is being captured.
  absl::StatusOr<Call> Begin(cudaStream_t stream, bool synchronises);

  // What an earlier call failed with, once: the first sentence of Begin.
  absl::Status TakeFailure();

  // Memory of three kinds, which are never mixed: kept blocks, which hold a ticket that is 0;
  // scratch of kernels; anything else.
  absl::StatusOr<std::shared_ptr<Block>> Kept(size_t bytes, const Call& call);
  absl::StatusOr<std::shared_ptr<Block>> Plain(size_t bytes, const Call& call);
  // Sets call->on.scratch.
  absl::StatusOr<std::shared_ptr<Block>> Scratch(const kernels::Grid& grid, int64_t groups,
                                                 DType dtype, Call* call);

  // Everything that was enqueued in this call until now uses `block`, which may be null.
  absl::Status Used(const std::shared_ptr<Block>& block, const Call& call) const;

  // The layer's name in front of the text; OK stays OK.
  absl::Status Named(const absl::Status& status) const;
  absl::Status Named(cudaError_t error, const char* what) const;
  // The first that is not OK, named.
  absl::Status FirstError(const std::vector<absl::Status>& statuses) const;

 private:
  DeviceLayer(std::string name, int device, Lane* lane)
      : name_(std::move(name)), device_(device), lane_(lane) {}

  const std::string name_;
  const int device_;
  Lane* const lane_;
  int multiprocessors_ = 0;
  PinnedBuffer notes_;
  std::shared_ptr<BlockPool> kept_, plain_, scratch_;
};

}  // namespace syncnorm::device
