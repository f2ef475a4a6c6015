// Memory of a device as the tests want it: exactly as large as what it holds, so that the
// simulator sees a step outside.
//
// Every call that fails is a test failure.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>
#include <syncnorm/device.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "tests/support/host_tensor.h"

namespace syncnorm::testing {

#define SYNCNORM_EXPECT_CUDA(call) \
  EXPECT_EQ(call, cudaSuccess) << #call << ": " << cudaGetErrorString(cudaPeekAtLastError())

// A stream that does not wait for the default one.
class Stream {
 public:
  Stream() { SYNCNORM_EXPECT_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  cudaStream_t get() const { return stream_; }
  void Synchronize() const { SYNCNORM_EXPECT_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// Bytes on the current device, allocated, written, read and freed in the order of a stream; nothing
// waits for the whole device, since the members of a group in one process wait for one another.
class DeviceBytes {
 public:
  DeviceBytes(const Stream& stream, size_t size) : stream_(stream.get()), size_(size) {
    if (size_ == 0) return;
    SYNCNORM_EXPECT_CUDA(cudaMallocAsync(&data_, size_, stream_));
  }
  DeviceBytes(const Stream& stream, const void* host, size_t size) : DeviceBytes(stream, size) {
    Write(host);
  }
  ~DeviceBytes() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  void* data() const { return data_; }
  void Write(const void* host) {
    if (size_ == 0) return;
    SYNCNORM_EXPECT_CUDA(cudaMemcpyAsync(data_, host, size_, cudaMemcpyHostToDevice, stream_));
    SYNCNORM_EXPECT_CUDA(cudaStreamSynchronize(stream_));
  }
  void Read(void* host) const {
    if (size_ == 0) return;
    SYNCNORM_EXPECT_CUDA(cudaMemcpyAsync(host, data_, size_, cudaMemcpyDeviceToHost, stream_));
    SYNCNORM_EXPECT_CUDA(cudaStreamSynchronize(stream_));
  }

 private:
  const cudaStream_t stream_;
  const size_t size_;
  void* data_ = nullptr;
};

// A tensor with a copy on the device.
class DeviceTensor {
 public:
  DeviceTensor(const Stream& stream, HostTensor host)
      : host_(std::move(host)), bytes_(stream, host_.bytes().data(), host_.bytes().size()) {}

  Tensor tensor() {
    Tensor tensor = host_.tensor();
    tensor.data = bytes_.data();
    return tensor;
  }
  void Store(const Numbers& numbers) {
    host_.Store(numbers);
    bytes_.Write(host_.bytes().data());
  }
  Numbers Load() {
    bytes_.Read(host_.tensor().data);
    return host_.Load();
  }

 private:
  HostTensor host_;
  DeviceBytes bytes_;
};

// C values of a dtype.
class DeviceNumbers {
 public:
  DeviceNumbers(const Stream& stream, DType dtype, const Numbers& numbers)
      : dtype_(dtype),
        tensor_(stream, HostTensor(dtype, {static_cast<int64_t>(numbers.size()), 1},
                                   Layout::kContiguous, numbers)) {}

  DeviceValues values() { return {tensor_.tensor().data, dtype_}; }
  void Store(const Numbers& numbers) { tensor_.Store(numbers); }
  Numbers Load() { return tensor_.Load(); }

 private:
  const DType dtype_;
  DeviceTensor tensor_;
};

// One counter.
class DeviceCounter {
 public:
  DeviceCounter(const Stream& stream, int64_t value) : bytes_(stream, &value, sizeof(value)) {}
  int64_t* data() const { return static_cast<int64_t*>(bytes_.data()); }
  int64_t Load() const {
    int64_t value = -1;
    bytes_.Read(&value);
    return value;
  }

 private:
  DeviceBytes bytes_;
};

}  // namespace syncnorm::testing
