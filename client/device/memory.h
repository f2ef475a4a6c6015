// Memory and events of CUDA, owned.
//
// Making one may make the whole device wait (cudaMalloc does), so layers make them once and use
// them again.  Destroying device or pinned memory waits for the device, too.
//
// CUDA does not survive a fork: what a child inherited is not touched, not even to free it.
//
// Callers may rely on: device memory is zero when it is new; what DeviceMemoryInUse() tells.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace syncnorm::device {

// OK, or kFailedPrecondition: this process is the child of one that used this library's CUDA.
absl::Status CheckNotForked();

// Makes `device` current for a scope.
class DeviceScope {
 public:
  explicit DeviceScope(int device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int before_ = -1;
};

// Memory of the current device, zero-filled on `stream`: ordered before what is enqueued there
// later.  While the stream is being captured it is zero when Make returns, so that it is whether or
// not the graph has been launched.
class DeviceBuffer {
 public:
  static absl::StatusOr<DeviceBuffer> Make(size_t bytes, cudaStream_t stream, bool capturing);
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceBuffer();

  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  char* data_ = nullptr;
  size_t bytes_ = 0;
};

// Page-locked memory of the host, zero-filled, that every device can use at the same address.
class PinnedBuffer {
 public:
  static absl::StatusOr<PinnedBuffer> Make(size_t bytes);
  PinnedBuffer() = default;
  PinnedBuffer(PinnedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedBuffer();

  char* data() const { return data_; }

 private:
  char* data_ = nullptr;
  size_t bytes_ = 0;
};

// An event without timing, of the current device.
class Event {
 public:
  static absl::StatusOr<Event> Make();
  Event() = default;
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~Event();

  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace syncnorm::device
