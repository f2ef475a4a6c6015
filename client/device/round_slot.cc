#include "client/device/round_slot.h"

#include <utility>

#include "client/device/cuda_status.h"

namespace syncnorm::device {

absl::Status RoundSlot::Consumed(cudaStream_t stream) {
  in_use_ = false;
  if (cudaError_t error = cudaEventRecord(consumed.get(), stream); error != cudaSuccess) {
    Abandon();
    return CudaStatus(error, "recording an event");
  }
  recorded_ = true;
  return absl::OkStatus();
}

RoundSlots::~RoundSlots() {
  if (!CheckNotForked().ok()) return;
  for (const auto& slot : slots_) {
    if (slot->recorded_) cudaEventSynchronize(slot->consumed.get());
  }
}

absl::StatusOr<std::shared_ptr<RoundSlot>> RoundSlots::Acquire(cudaStream_t stream) {
  for (const auto& slot : slots_) {
    if (slot->in_use_ || slot->abandoned_ || !slot->published()) continue;
    if (slot->flag.waiting.load(std::memory_order_acquire) > 0) continue;
    if (slot->recorded_) {
      if (cudaError_t error = cudaStreamWaitEvent(stream, slot->consumed.get(), 0);
          error != cudaSuccess) {
        return CudaStatus(error, "waiting for the last use of a round's memory");
      }
    }
    slot->in_use_ = true;
    return slot;
  }
  auto slot = std::make_shared<RoundSlot>();
  // The flag has a cache line of its own: the driver polls it.
  constexpr size_t kLine = 64;
  const size_t aligned = (bytes() + kLine - 1) / kLine * kLine;
  absl::StatusOr<PinnedBuffer> memory = PinnedBuffer::Make(2 * aligned + kLine);
  if (!memory.ok()) return memory.status();
  absl::StatusOr<Event> out = Event::Make();
  if (!out.ok()) return out.status();
  absl::StatusOr<Event> consumed = Event::Make();
  if (!consumed.ok()) return consumed.status();
  slot->kind = kind_;
  slot->rows = rows_;
  slot->channels = channels_;
  slot->observe = observe_;
  slot->memory_ = *std::move(memory);
  slot->out = *std::move(out);
  slot->consumed = *std::move(consumed);
  char* data = slot->memory_.data();
  slot->sent.header = reinterpret_cast<kernels::cuda::MomentsHeader*>(data);
  slot->result.header = reinterpret_cast<kernels::cuda::MomentsHeader*>(data + aligned);
  slot->flag.word = reinterpret_cast<uint32_t*>(data + 2 * aligned);
  slot->in_use_ = true;
  slots_.push_back(slot);
  return slot;
}

void RoundSlots::AwaitPublished() const {
  for (const auto& slot : slots_) slot->flag.Wait(slot->sequence);
}

}  // namespace syncnorm::device
