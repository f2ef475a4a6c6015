// DevicePowerNorm: SyncPowerNorm (power_norm.h) for tensors on a device.  The same options,
// semantics and edges, the same rounds, so that members on devices and on CPUs may be in one group;
// all of it enqueued on a stream of the caller's.
//
// Schedule.  In the warm-up the stream waits for each forward statistic (with kPaper for each
// backward one, too).  After it nothing is needed at once: a statistic is applied at its latest
// legal moment, as on the CPU.  If it is there when that call is made, nothing is put into the
// stream but the kernel that applies it; if not (the CPU ran ahead of the device by a step), a wait
// that is over by the time the stream comes to it, unless the network really is slower than a step.
// DeviceReducer::counters().stream_waits counts them.
//
// What differs from SyncPowerNorm:
//   * Parameters, their gradients and running statistics are the caller's device memory, in the
//     caller's dtype.  iters, too; a copy of it is read when the tensors are set.
//   * A failed round, a mask with other values than 0 and 1 and a recomputation of no kept forward
//   come out
//     of a later call; see device.h.
//   * Whether a step still is one of the warm-up is decided on the device.  Where the CPU cannot
//   know
//     (a statistic under way may prove to have moved nothing), the stream waits.
//   * At most 32 forwards are kept for recomputations.
//
// Thread-safety: thread-compatible.
#pragma once

#include <syncnorm/device.h>
#include <syncnorm/power_norm.h>
#include <syncnorm/reducer.h>
#include <syncnorm/tensor.h>

#include <cstdint>
#include <memory>
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
struct PowerBackwardStatistic;
struct PowerLayer;
}  // namespace cuda
}  // namespace kernels

// A layer's tensors, C values each but for iters; as DeviceBatchNormTensors.
struct DevicePowerNormTensors {
  DeviceValues weight, bias;         // any dtype; null unless affine
  DeviceValues running_phi, ema_gz;  // f32 or f64
  int64_t* iters = nullptr;          // one value
};

class DevicePowerNorm final : public LayerState {
 public:
  // What a forward keeps for its backward.  Until then x must stay alive and unchanged, and the
  // weight unchanged.
  struct Context {
    std::string layer;  // whose context this is; empty: of no forward
    ConstTensor x;
    std::shared_ptr<device::Block> valid;  // null: no padding
    std::shared_ptr<device::Block> group_scale;
    bool training = false;
    bool synchronised = false;
    bool warm_up = false;  // may be a step of it
    std::shared_ptr<device::Block> kept;
    std::vector<std::shared_ptr<device::Block>> repeats;  // one of these; empty unless recomputed
  };
  struct Gradients {
    DeviceValues weight, bias;  // any dtype; null: not wanted
  };

  // `reducer` may be null: always local.  As SyncPowerNorm::Create, and DeviceBatchNorm::Create.
  // Waits for the default stream, to read iters.
  static absl::StatusOr<std::unique_ptr<DevicePowerNorm>> Create(std::string name,
                                                                 PowerNormOptions options,
                                                                 int device,
                                                                 DevicePowerNormTensors tensors,
                                                                 DeviceReducer* reducer);
  // Waits until its rounds have ended and the streams have read their results.
  ~DevicePowerNorm() override;
  DevicePowerNorm(const DevicePowerNorm&) = delete;
  DevicePowerNorm& operator=(const DevicePowerNorm&) = delete;

  // Other tensors, or the same with another iters: waits for the stream of the last call, to
  // read it.
  // kInvalidArgument names the tensor; kFailedPrecondition: not drained.
  absl::Status set_tensors(const DevicePowerNormTensors& tensors);
  // Other parameters only: waits for nothing, and statistics may be under way.
  absl::Status set_parameters(const DeviceValues& weight, const DeviceValues& bias);

  // As SyncPowerNorm's.  pad_mask: B x T bytes on the device.  Errors as DeviceBatchNorm's;
  // kFailedPrecondition also for an eval Forward that is not drained.
  absl::Status Forward(const ConstTensor& x, const uint8_t* pad_mask, const Tensor& y,
                       Context* context, DeviceStream stream);
  // The stream is ordered after the forward's by the caller, if it is another one.
  absl::Status Backward(const Context& context, const ConstTensor& dy, const Tensor* dx,
                        const Gradients* gradients, DeviceStream stream, double grad_scale = 1.0);

  // Applies every statistic under way, on the stream.  Afterwards nothing is.
  absl::Status Drain(DeviceStream stream);

  // As DeviceBatchNorm's.
  absl::Status Check();

  void set_training(bool training) { training_ = training; }
  bool training() const { return training_; }
  const std::string& name() const { return name_; }
  const PowerNormOptions& options() const { return options_; }
  bool need_sync() const;

  // As SyncPowerNorm's, and exchangeable with it.  They are ordered on the stream of the last call,
  // and wait for it; Save drains.
  absl::StatusOr<std::string> Save() override;
  absl::Status Load(std::string_view bytes) override;

 private:
  // A statistic under way: the blocks that it is for, and the slot in which it comes.
  struct Statistic {
    std::shared_ptr<device::RoundSlot> slot;  // null: none
    std::shared_ptr<device::Block> kept;
    std::vector<std::shared_ptr<device::Block>> repeats;
  };
  // What the CPU knows of iters.  Shared with the Lane's threads.
  struct Progress;

  DevicePowerNorm(std::string name, PowerNormOptions options);

  kernels::cuda::PowerLayer Layer() const;
  bool masked_backward() const;
  bool under_way() const { return forward_.slot != nullptr || backward_.slot != nullptr; }
  bool blocking() const { return options_.schedule == PowerNormSchedule::kBlocking; }
  absl::Status CheckDrained(const char* before) const;
  absl::Status CheckParameters(const DeviceValues& weight, const DeviceValues& bias) const;
  absl::Status ReadIters();
  absl::Status SendStatistic(const device::Call& call, Context* now);
  absl::Status Recall(const device::Call& call, Context* now);
  absl::Status ApplyForward(const device::Call& call, bool coefficients = false);
  absl::Status TakeBackward(const device::Call& call, Statistic* taken,
                            kernels::cuda::PowerBackwardStatistic* statistic);
  absl::Status Applied(const device::Call& call, const Statistic& taken);
  // Whether `statistic` is under way, and that of the forward whose blocks these are.
  static bool IsOf(const Statistic& statistic, const std::shared_ptr<device::Block>& kept,
                   const std::vector<std::shared_ptr<device::Block>>& repeats);

  std::string name_;
  PowerNormOptions options_;
  Reducer* group_ = nullptr;
  bool training_ = true;
  DevicePowerNormTensors tensors_;
  DeviceStream last_stream_ = nullptr;
  std::shared_ptr<Progress> progress_;
  std::unique_ptr<device::DeviceLayer> layer_;
  std::unique_ptr<device::RoundSlots> forward_slots_, backward_slots_;
  Statistic forward_, backward_;
  std::unique_ptr<device::KeptBlocks> kept_;
};

}  // namespace syncnorm
