#include "client/device/memory.h"

#include <syncnorm/device.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "client/device/cuda_status.h"
#include "client/fork_guard.h"

namespace syncnorm {
namespace {

std::atomic<uint64_t> device_bytes{0}, pinned_bytes{0}, allocations{0};

}  // namespace

DeviceMemory DeviceMemoryInUse() { return {device_bytes, pinned_bytes, allocations}; }

namespace device {
namespace {

// Of the process that comes here first.
const ForkGuard& Process() {
  static const ForkGuard process;
  return process;
}

// While it lives, this thread may allocate although a stream is being captured.
class RelaxedCapture {
 public:
  RelaxedCapture() { exchanged_ = cudaThreadExchangeStreamCaptureMode(&mode_) == cudaSuccess; }
  ~RelaxedCapture() {
    if (exchanged_) cudaThreadExchangeStreamCaptureMode(&mode_);
  }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  bool exchanged_ = false;
};

// On a stream of its own, since the caller's is being captured.
cudaError_t FillNow(void* data, size_t bytes) {
  cudaStream_t stream = nullptr;
  cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (error != cudaSuccess) return error;
  error = cudaMemsetAsync(data, 0, bytes, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  cudaStreamDestroy(stream);
  return error;
}

}  // namespace

absl::Status CheckNotForked() { return Process().Check(); }

DeviceScope::DeviceScope(int device) {
  int now = -1;
  if (cudaGetDevice(&now) != cudaSuccess || now == device) return;
  if (cudaSetDevice(device) == cudaSuccess) before_ = now;
}

DeviceScope::~DeviceScope() {
  if (before_ >= 0) cudaSetDevice(before_);
}

absl::StatusOr<DeviceBuffer> DeviceBuffer::Make(size_t bytes, cudaStream_t stream, bool capturing) {
  const RelaxedCapture relaxed;
  DeviceBuffer buffer;
  void* data = nullptr;
  if (cudaError_t error = cudaMalloc(&data, bytes); error != cudaSuccess) {
    cudaGetLastError();  // it is told here, and not once more by the caller's next call
    return CudaStatus(error, absl::StrCat(bytes, " bytes of device memory"));
  }
  buffer.data_ = static_cast<char*>(data);
  buffer.bytes_ = bytes;
  device_bytes += bytes;
  ++allocations;
  if (cudaError_t error =
          capturing ? FillNow(data, bytes) : cudaMemsetAsync(data, 0, bytes, stream);
      error != cudaSuccess) {
    return CudaStatus(error, "filling new device memory");
  }
  return buffer;
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ == nullptr || Process().Forked()) return;
  const RelaxedCapture relaxed;
  cudaFree(data_);
  device_bytes -= bytes_;
}

absl::StatusOr<PinnedBuffer> PinnedBuffer::Make(size_t bytes) {
  const RelaxedCapture relaxed;
  PinnedBuffer buffer;
  void* data = nullptr;
  if (cudaError_t error = cudaHostAlloc(&data, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
      error != cudaSuccess) {
    cudaGetLastError();
    return CudaStatus(error, absl::StrCat(bytes, " bytes of pinned memory"));
  }
  std::memset(data, 0, bytes);
  buffer.data_ = static_cast<char*>(data);
  buffer.bytes_ = bytes;
  pinned_bytes += bytes;
  ++allocations;
  return buffer;
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ == nullptr || Process().Forked()) return;
  const RelaxedCapture relaxed;
  cudaFreeHost(data_);
  pinned_bytes -= bytes_;
}

absl::StatusOr<Event> Event::Make() {
  Event event;
  if (cudaError_t error =
          cudaEventCreateWithFlags(&event.event_, cudaEventDisableTiming | cudaEventBlockingSync);
      error != cudaSuccess) {
    return CudaStatus(error, "an event");
  }
  return event;
}

Event::~Event() {
  if (event_ != nullptr && !Process().Forked()) cudaEventDestroy(event_);
}

}  // namespace device
}  // namespace syncnorm
