// What tests of device code share.
//
//   Check        fails the process with CUDA's words: after an error nothing on the device works
//   DeviceArray  memory of the device with what the test put there
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

namespace syncnorm::kernels::cuda {

inline void Check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s: %s\n", what, cudaGetErrorName(status), cudaGetErrorString(status));
  std::fflush(nullptr);
  std::abort();
}

// `bytes` of the device at an address that is `skew` modulo 64, not written yet or NaN.  With a
// skew of 0 it is all of its allocation; otherwise there are bytes of 0xff, which are NaN in every
// format, around it.
class DeviceArray {
 public:
  DeviceArray(size_t bytes, size_t skew)
      : bytes_(bytes), before_(skew == 0 ? 0 : kPoison + skew), after_(skew == 0 ? 0 : kPoison) {
    std::vector<void*>& spare = Spare()[total()];
    if (!spare.empty()) {
      all_ = spare.back();
      spare.pop_back();
      Poison(static_cast<uint8_t*>(all_), total());
      return;
    }
    Check(cudaMalloc(&all_, total() == 0 ? 1 : total()), "cudaMalloc");
    Poison(data() - before_, before_);
    Poison(data() + bytes_, after_);
  }
  ~DeviceArray() {
    // Which bytes were written is kept for each allocation, so checking for that needs new ones.
    static const bool keep = std::getenv("CUDASIM_INITCHECK") == nullptr;
    if (keep) {
      Spare()[total()].push_back(all_);
    } else {
      cudaFree(all_);
    }
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  uint8_t* data() const { return static_cast<uint8_t*>(all_) + before_; }
  size_t bytes() const { return bytes_; }

  void Put(const void* from) {
    if (bytes_ == 0) return;
    Check(cudaMemcpy(data(), from, bytes_, cudaMemcpyHostToDevice), "copy");
    Check(cudaStreamSynchronize(nullptr), "copy");  // before what runs on other streams
  }
  void Get(void* to) const {
    if (bytes_ > 0) Check(cudaMemcpy(to, data(), bytes_, cudaMemcpyDeviceToHost), "copy");
  }
  // Is what lies around it as it was?
  bool PoisonIsIntact() const {
    return IsPoison(data() - before_, before_) && IsPoison(data() + bytes_, after_);
  }

 private:
  static constexpr size_t kPoison = 64;  // skews are smaller
  // Allocations that are free again, by size: making one takes longer than most kernels of the
  // tests.
  static std::map<size_t, std::vector<void*>>& Spare() {
    static auto* const spare = new std::map<size_t, std::vector<void*>>;
    return *spare;
  }
  size_t total() const { return before_ + bytes_ + after_; }
  static void Poison(uint8_t* from, size_t bytes) {
    if (bytes == 0) return;
    Check(cudaMemset(from, 0xff, bytes), "cudaMemset");
    Check(cudaStreamSynchronize(nullptr), "cudaMemset");  // before what runs on other streams
  }
  static bool IsPoison(const uint8_t* from, size_t bytes) {
    uint8_t all[2 * kPoison];
    if (bytes > 0) Check(cudaMemcpy(all, from, bytes, cudaMemcpyDeviceToHost), "copy");
    return std::all_of(all, all + bytes, [](uint8_t byte) { return byte == 0xff; });
  }

  size_t bytes_, before_, after_;
  void* all_ = nullptr;
};

}  // namespace syncnorm::kernels::cuda
