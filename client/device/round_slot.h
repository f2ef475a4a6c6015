// RoundSlot: what one round of a layer on a device needs, beside the layer's own memory: pinned
// memory for the moments on their way out and for the result, a flag, and two events.
//
//   free -- Acquire --> filled -- Lane::Submit --> under way -- published --> consumed --> free
//
// `sequence` counts the uses; the flag reaches it when the result (or the failure) of this use lies
// in `result`.  A slot is free again once its user is done with it (Release), its result was
// published, and no host function waits on it.  Where the stream still reads the result then, the
// next use is ordered behind that by an event; where that could not be recorded there is no next
// use.
//
// 32 bytes and 8 bytes a row and channel each way; a batch norm's round: 2 x (32 + 16 C) + 64.
//
// Thread-safety: RoundSlots is thread-compatible, as its layer; a slot that is under way belongs to
// the Lane's threads, but for the flag.
#pragma once

#include <cuda_runtime_api.h>
#include <syncnorm/reducer.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/device/memory.h"
#include "client/device/stream_wait.h"
#include "kernels/cuda/fold.h"

namespace syncnorm::device {

struct RoundSlot {
  MomentKind kind = MomentKind::kSums;
  int64_t rows = 0;
  int64_t channels = 0;

  kernels::cuda::MomentsView sent;    // pinned
  kernels::cuda::MomentsView result;  // pinned
  Flag flag;
  Event out;       // the moments have left the device
  Event consumed;  // the stream has read the result
  uint32_t sequence = 0;
  // Called with the result before it is published, in a thread of the Lane's; may be empty.
  std::function<void(const absl::StatusOr<Moments>&)> observe;

  bool published() const { return flag.Reached(sequence); }
  // What was enqueued on `stream` until now reads the result, and nothing later will.
  absl::Status Consumed(cudaStream_t stream);
  // The user is done; for one that never got as far as Consumed, too.
  void Release() { in_use_ = false; }
  // A stream may use its memory, and nobody knows until when: nobody else gets it.
  void Abandon() { abandoned_ = true; }

 private:
  friend class RoundSlots;
  PinnedBuffer memory_;
  bool in_use_ = false;
  bool recorded_ = false;  // `consumed` has been
  bool abandoned_ = false;
};

// The slots of one layer and direction.
class RoundSlots {
 public:
  RoundSlots(MomentKind kind, int64_t rows, int64_t channels,
             std::function<void(const absl::StatusOr<Moments>&)> observe = {})
      : kind_(kind), rows_(rows), channels_(channels), observe_(std::move(observe)) {}
  // Waits for the streams to have read all results; every slot has been published.
  ~RoundSlots();

  size_t bytes() const { return kernels::cuda::MomentsView::Bytes(rows_, channels_); }
  // A slot whose next use is ordered on `stream`.
  absl::StatusOr<std::shared_ptr<RoundSlot>> Acquire(cudaStream_t stream);
  // Waits until everything that was submitted has been published.
  void AwaitPublished() const;

 private:
  const MomentKind kind_;
  const int64_t rows_;
  const int64_t channels_;
  const std::function<void(const absl::StatusOr<Moments>&)> observe_;
  std::vector<std::shared_ptr<RoundSlot>> slots_;
};

}  // namespace syncnorm::device
