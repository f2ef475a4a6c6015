#include "client/device/stream_wait.h"

#include <cuda.h>

#include "absl/strings/str_cat.h"
#include "client/device/cuda_status.h"

namespace syncnorm::device {
namespace {

// What a host function waits for: the flag holds it, since the function gets one pointer.  A flag
// has one target at a time.
void CUDART_CB WaitOnHost(void* argument) {
  auto* flag = static_cast<Flag*>(argument);
  flag->Wait(flag->host_target);
  flag->waiting.fetch_sub(1, std::memory_order_release);
}

}  // namespace

void Flag::Publish(uint32_t to) {
  std::atomic_ref<uint32_t>(*word).store(to, std::memory_order_release);
  value.store(to, std::memory_order_release);
  value.notify_all();
}

void Flag::Wait(uint32_t target) const {
  for (uint32_t now = value.load(std::memory_order_acquire); !Reached(now, target);
       now = value.load(std::memory_order_acquire)) {
    value.wait(now, std::memory_order_acquire);
  }
}

absl::StatusOr<StreamWait> StreamWait::Make(StreamWaiting waiting) {
  StreamWait wait;
  if (waiting == StreamWaiting::kHostFunction) return wait;
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  // 12000: since then the call works on every device that the driver supports, without a setting.
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &entry, 12000,
                                                             cudaEnableDefault, &found);
  if (error == cudaSuccess && found == cudaDriverEntryPointSuccess) {
    wait.wait_value_ = reinterpret_cast<WaitValue>(entry);
    return wait;
  }
  cudaGetLastError();
  if (waiting == StreamWaiting::kStreamMemory) {
    return absl::UnimplementedError(absl::StrCat("this driver has no cuStreamWaitValue32 (",
                                                 cudaGetErrorString(error),
                                                 "): use StreamWaiting::kHostFunction or kBest"));
  }
  return wait;
}

absl::Status StreamWait::Enqueue(Flag* flag, uint32_t target, cudaStream_t stream) const {
  if (wait_value_ == nullptr) {
    flag->host_target = target;
    flag->waiting.fetch_add(1, std::memory_order_relaxed);
    const cudaError_t error = cudaLaunchHostFunc(stream, WaitOnHost, flag);
    if (error != cudaSuccess) flag->waiting.fetch_sub(1, std::memory_order_relaxed);
    return CudaStatus(error, "a host function that waits for a result");
  }
  const int error = wait_value_(stream, reinterpret_cast<uintptr_t>(flag->word), target,
                                CU_STREAM_WAIT_VALUE_GEQ);
  if (error == CUDA_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("a wait of the stream for a result: the driver says ",
                                          error, " (cuStreamWaitValue32)"));
}

}  // namespace syncnorm::device
