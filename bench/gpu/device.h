// The device of a measuring program: what it is, memory on it, and time on it.
//
// Errors of CUDA are thrown as CudaError, with CUDA's words: after most of them nothing on the
// device works, and the program ends.
//
// Thread-safety: none; one thread calls it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace syncnorm::bench::gpu {

class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

void Check(cudaError_t status, const char* what);

struct Device {
  int multiprocessors = 0;
  size_t cache_bytes = 0;  // second level
  bool simulated = false;  // times mean nothing
};

// Device 0, and the greeting of the protocol about it; or the greeting without a device.
Device Open(nlohmann::json* greeting);

// Memory of the device, all zero at first, freed at the end.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes);
  ~DeviceBytes();
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  void* get() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void Put(const void* from, size_t bytes);
  void Get(void* to, size_t bytes) const;

 private:
  void* data_ = nullptr;
};

// What is timed: enqueues its work on the stream.
struct Variant {
  std::string name;
  double passes = 0;  // over the tensor: bytes that are moved at least
  std::function<void(cudaStream_t)> run;
};

// Times in microseconds, by events on the stream: every variant once a repetition, in turn, after
// kWarmUps.  Before each, the second-level cache is filled with something else, unless simulated.
constexpr int kWarmUps = 3;
// The CPU is at most that many repetitions ahead of the stream.  Layers have some 120 operations in
// one (8 of them, forward and backward, of about 7), and a stream's queue holds 1024: nothing that
// is enqueued has to wait for room.
constexpr int kMostAhead = 4;
std::vector<std::vector<double>> Time(const std::vector<Variant>& variants, int repetitions,
                                      const Device& device, cudaStream_t stream);

}  // namespace syncnorm::bench::gpu
