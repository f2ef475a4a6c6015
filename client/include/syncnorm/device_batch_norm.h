// DeviceBatchNorm: SyncBatchNorm (batch_norm.h) for tensors on a device.  The same options, the
// same edges, the same rounds, so that members on devices and on CPUs may be in one group; all of
// it enqueued on a stream of the caller's.
//
//   Forward    statistics - (copy out, round, wait) - fold in - normalise
//   Backward   gradient sums - (copy out, round, wait) - fold in - gradient
//
// What differs:
//   * Parameters, their gradients and running statistics are the caller's device memory, in the
//     caller's dtype, and are read and written by the stream.
//   * A failed round, a mask with other values than 0 and 1 and a recomputation of no kept forward
//   come out
//     of a later call; see device.h.
//   * At most 32 forwards are kept for recomputations.  They are compared on the device.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/batch_norm.h>
#include <syncnorm/device.h>
#include <syncnorm/reducer.h>
#include <syncnorm/tensor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm {

namespace device {
class Block;
class DeviceLayer;
class KeptBlocks;
class RoundSlots;
struct Call;
struct RoundSlot;
}  // namespace device
namespace kernels {
struct Grid;
namespace cuda {
struct MomentsView;
}
}  // namespace kernels

// A layer's tensors, C values each.  They may be changed by work on the streams that the layer is
// called with, and be exchanged for others between calls (set_tensors).
struct DeviceBatchNormTensors {
  DeviceValues weight, bias;               // any dtype; null unless affine
  DeviceValues running_mean, running_var;  // f32 or f64; null unless statistics are tracked
  int64_t* num_batches_tracked = nullptr;  // one value, on the device; may be null with a momentum
};

class DeviceBatchNorm final : public LayerState {
 public:
  // What a forward keeps for its backward.  Until then x must stay alive and unchanged, and the
  // weight unchanged.  It may outlive the layer, but is of no use then.
  struct Context {
    std::string layer;  // whose context this is; empty: of no forward
    ConstTensor x;
    std::shared_ptr<device::Block> valid;  // null: nothing is masked out
    bool batch_statistics = false;
    bool synchronised = false;
    bool recomputed = false;
    std::shared_ptr<std::atomic<uint64_t>> step;  // null: not synchronised, or recomputed
    std::shared_ptr<device::Block> kept;
    std::vector<std::shared_ptr<device::Block>> repeats;  // one of these; empty unless recomputed
  };
  // Of this worker's slice, as SyncBatchNorm::Gradients: written on the stream.
  struct Gradients {
    DeviceValues weight, bias;  // any dtype; null: not wanted
  };

  // `reducer` may be null: always local.  As SyncBatchNorm::Create; kInvalidArgument also where
  // there is no such device, kept_forwards is over 32, or as set_tensors.  A state that this member
  // was handed is written to the tensors.
  static absl::StatusOr<std::unique_ptr<DeviceBatchNorm>> Create(std::string name,
                                                                 BatchNormOptions options,
                                                                 int device,
                                                                 DeviceBatchNormTensors tensors,
                                                                 DeviceReducer* reducer);
  // Waits until its rounds have ended and the streams have read their results.
  ~DeviceBatchNorm() override;
  DeviceBatchNorm(const DeviceBatchNorm&) = delete;
  DeviceBatchNorm& operator=(const DeviceBatchNorm&) = delete;

  // kInvalidArgument names the tensor: absent, of a dtype that it may not have, or not on the
  // layer's device.
  absl::Status set_tensors(const DeviceBatchNormTensors& tensors);
  // As SyncBatchNorm's; kInvalidArgument also for a cumulative average without num_batches_tracked.
  absl::Status SetEpsAndMomentum(double eps, std::optional<double> momentum);

  // As SyncBatchNorm's.  The mask's data are on the device.  An error is kInvalidArgument (what was
  // wrong, before anything is enqueued), kFailedPrecondition (the stream is being captured), an
  // earlier call's failure, or CUDA's (kInternal, kResourceExhausted).
  absl::Status Forward(const ConstTensor& x, const PositionMask* mask, const Tensor& y,
                       Context* context, DeviceStream stream);
  // The stream is ordered after the forward's by the caller, if it is another one.
  absl::Status Backward(const Context& context, const ConstTensor& dy, const Tensor* dx,
                        const Gradients* gradients, DeviceStream stream);

  // The failure of an earlier call, if one is known; it then is told.  Complete once the stream has
  // been synchronised.
  absl::Status Check();

  void set_training(bool training) { training_ = training; }
  bool training() const { return training_; }
  const std::string& name() const { return name_; }
  const BatchNormOptions& options() const { return options_; }
  bool need_sync() const;

  // As SyncBatchNorm's, and exchangeable with it.  They are ordered on the stream of the last call,
  // and wait for it.
  absl::StatusOr<std::string> Save() override;
  absl::Status Load(std::string_view bytes) override;

 private:
  DeviceBatchNorm(std::string name, BatchNormOptions options);

  absl::Status CheckMask(const PositionMask& mask, const ConstTensor& x,
                         const kernels::Grid& grid) const;
  absl::StatusOr<std::shared_ptr<device::Block>> Valid(const PositionMask& mask, int64_t positions,
                                                       const Context& now,
                                                       const device::Call& call);
  absl::Status TakeStatistics(const device::Call& call, Context* now);
  absl::Status Recall(const device::Call& call, Context* now);
  absl::StatusOr<std::shared_ptr<device::RoundSlot>> SendSums(const Context& context,
                                                              kernels::cuda::MomentsView local,
                                                              const device::Call& call);

  std::string name_;
  BatchNormOptions options_;
  Reducer* group_ = nullptr;
  bool training_ = true;
  DeviceBatchNormTensors tensors_;
  DeviceStream last_stream_ = nullptr;
  // Synchronised forwards that were sent; shared with the Lane's threads.
  std::shared_ptr<std::atomic<uint64_t>> steps_ = std::make_shared<std::atomic<uint64_t>>(0);
  std::unique_ptr<device::DeviceLayer> layer_;
  std::unique_ptr<device::RoundSlots> forward_slots_, backward_slots_;
  std::unique_ptr<device::KeptBlocks> kept_;
};

}  // namespace syncnorm
