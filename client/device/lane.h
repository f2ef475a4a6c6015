// Lane: carries the moments of layers on devices to a group, and the results back, in the order of
// the calls.  Two threads:
//
//   queue -> sender: waits until the moments have left the device, Reduce -> receiver: waits for
//   the result, writes it to pinned memory, publishes it
//
// Two, because a sender that waits for a result would not see that the next layer's moments are
// there, and because results come in the order of rounds, so that one receiver suffices.
//
// Order of waits.  A stream that waits for a result may hold up other streams: the hardware has
// fewer queues than programs have streams, and host functions run one at a time.  So that no wait
// holds up the contribution that it depends on, the stream first waits (by an event) for the
// contributions of other streams that were made before and have not left the device.  The earliest
// round that is not complete then always can be: by induction over the rounds, on every member.
//
// Every slot that is submitted is published, whatever happens: with the result, or with a failure
// whose status is kept until it is told, under the layer's name.
//
// Thread-safety: thread-safe.
#pragma once

#include <cuda_runtime_api.h>
#include <syncnorm/device.h>
#include <syncnorm/reducer.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/device/block_pool.h"
#include "client/device/round_slot.h"
#include "client/device/stream_wait.h"
#include "client/fork_guard.h"

namespace syncnorm {

// Where the step of a round comes from that the host numbers.  It gets its number as it is sent, so
// that one that is not sent after all (a wrong mask) leaves no gap.
struct StepNumbering {
  std::shared_ptr<std::atomic<uint64_t>> count;  // the next one of it; null: `step` is there
  std::shared_ptr<std::atomic<uint64_t>> step;   // 0: of a round that was not sent
};

class Lane {
 public:
  Lane(Reducer* group, device::StreamWait wait);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  Reducer* group() const { return group_; }
  const device::StreamWait& wait() const { return wait_; }
  // Memory of a device, shared by the layers; see DeviceLayer.
  enum class Purpose : uint8_t { kKept, kPlain, kScratch };
  std::shared_ptr<device::BlockPool> pool(int device, Purpose purpose) ABSL_LOCKS_EXCLUDED(mutex_);

  // Enqueues the copy of `moments` (device memory) out to the slot's on `stream`, and the round
  // after all that were submitted before.  key.step is what `numbering` says, or else (both null)
  // the moments' header; a step of 0 there means that a recomputation found no forward
  // (kFailedPrecondition).  A mask that was wrong fails the round (kInvalidArgument) on this member
  // before it is sent.  Not OK: nothing was submitted.
  absl::Status Submit(const std::shared_ptr<device::RoundSlot>& slot, ReduceKey key,
                      kernels::cuda::MomentsView moments, cudaStream_t stream,
                      StepNumbering numbering = {}) ABSL_LOCKS_EXCLUDED(order_mutex_, mutex_);
  // Work enqueued on `stream` afterwards starts once the slot's result is there.  Nothing is
  // enqueued if it is already.
  absl::Status Await(const std::shared_ptr<device::RoundSlot>& slot, cudaStream_t stream)
      ABSL_LOCKS_EXCLUDED(order_mutex_, mutex_);

  // A contribution from the host, in the same order.
  MomentsFuture Reduce(const ReduceKey& key, const Moments& moments)
      ABSL_LOCKS_EXCLUDED(order_mutex_, mutex_);

  // The oldest failure that was not told yet, of `layer`, or of any (null); it then was.
  absl::Status TakeFailure(const std::string* layer) ABSL_LOCKS_EXCLUDED(mutex_);

  // Until every entry has been handed to the group, those of the host, too, and those of streams
  // have been published.  False: not by then.
  bool AwaitResults(absl::Duration timeout) const ABSL_LOCKS_EXCLUDED(mutex_);

  DeviceCounters counters() const;
  const ForkGuard& fork_guard() const { return fork_guard_; }

 private:
  class HostRound;
  struct Entry {
    ReduceKey key;
    std::shared_ptr<device::RoundSlot> slot;  // null: of the host
    std::shared_ptr<HostRound> host;
    cudaStream_t stream = nullptr;
    StepNumbering numbering;
    MomentsFuture future;  // once sent
  };
  struct Failure {
    std::string layer;
    absl::Status status;
  };

  void Send() ABSL_LOCKS_EXCLUDED(mutex_);
  void Receive() ABSL_LOCKS_EXCLUDED(mutex_);
  // The moments of `entry`, which have left the device.
  absl::StatusOr<Moments> Collect(Entry* entry) const;
  void Publish(const Entry& entry, const absl::StatusOr<Moments>& result)
      ABSL_LOCKS_EXCLUDED(mutex_);

  Reducer* const group_;
  const device::StreamWait wait_;
  const ForkGuard fork_guard_;
  // results_ grows under mutex_.
  std::atomic<uint64_t> rounds_{0}, results_{0}, stream_waits_{0};

  // Held while a call's operations are put into a stream, so that rounds have the order of their
  // operations.  Where the device's queue is full, that lasts until the stream goes on, i.e.
  // perhaps until a result has come: the Lane's own threads never take it.
  absl::Mutex order_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable absl::Mutex mutex_;
  std::map<std::pair<int, Purpose>, std::shared_ptr<device::BlockPool>> pools_
      ABSL_GUARDED_BY(mutex_);
  std::deque<Entry> to_send_ ABSL_GUARDED_BY(mutex_);  // the first one may be being sent
  std::deque<Entry> to_receive_ ABSL_GUARDED_BY(mutex_);
  bool sender_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // At most kMostFailures; later ones are dropped, since the oldest says what happened.
  std::deque<Failure> failures_ ABSL_GUARDED_BY(mutex_);

  std::thread sender_, receiver_;
};

}  // namespace syncnorm
