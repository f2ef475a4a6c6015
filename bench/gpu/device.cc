#include "bench/gpu/device.h"

#include <cstring>

namespace syncnorm::bench::gpu {
namespace {

std::string Words(cudaError_t status) {
  return std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
}

class Event {
 public:
  Event() { Check(cudaEventCreate(&event_), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

void Check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw CudaError(std::string(what) + ": " + Words(status));
}

Device Open(nlohmann::json* greeting) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    *greeting = {{"no_device", status != cudaSuccess ? Words(status) : "there are 0 devices"}};
    return {};
  }
  cudaDeviceProp properties;
  Check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  int driver = 0, runtime = 0;
  Check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  Check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  Device device;
  device.multiprocessors = properties.multiProcessorCount;
  device.cache_bytes = static_cast<size_t>(properties.l2CacheSize);
  device.simulated = std::strncmp(properties.name, "cudasim", 7) == 0;
  *greeting = {{"device", properties.name},
               {"simulated", device.simulated},
               {"compute_capability",
                std::to_string(properties.major) + "." + std::to_string(properties.minor)},
               {"multiprocessors", device.multiprocessors},
               {"cache_bytes", device.cache_bytes},
               {"memory_bytes", properties.totalGlobalMem},
               {"devices", count},
               {"cuda_driver", driver},
               {"cuda_runtime", runtime}};
  return device;
}

DeviceBytes::DeviceBytes(size_t bytes) {
  Check(cudaMalloc(&data_, bytes == 0 ? 1 : bytes), "cudaMalloc");
  Check(cudaMemset(data_, 0, bytes), "cudaMemset");
  // Streams that do not wait for the default one use it next.
  Check(cudaStreamSynchronize(nullptr), "cudaMemset");
}
DeviceBytes::~DeviceBytes() { cudaFree(data_); }
void DeviceBytes::Put(const void* from, size_t bytes) {
  Check(cudaMemcpy(data_, from, bytes, cudaMemcpyHostToDevice), "cudaMemcpy to the device");
}
void DeviceBytes::Get(void* to, size_t bytes) const {
  Check(cudaMemcpy(to, data_, bytes, cudaMemcpyDeviceToHost), "cudaMemcpy to the host");
}

std::vector<std::vector<double>> Time(const std::vector<Variant>& variants, int repetitions,
                                      const Device& device, cudaStream_t stream) {
  // Twice the cache: nothing of what was there before is left, whatever its replacement.
  const size_t flush_bytes = device.simulated ? 0 : 2 * device.cache_bytes;
  const DeviceBytes flush(flush_bytes);
  const size_t timed = variants.size() * static_cast<size_t>(repetitions);
  const std::vector<Event> begins(timed), ends(timed);
  size_t at = 0;
  for (int r = -kWarmUps; r < repetitions; ++r) {
    for (const Variant& variant : variants) {
      if (flush_bytes > 0) {
        Check(cudaMemsetAsync(flush.get(), r & 1, flush_bytes, stream), "cudaMemsetAsync");
      }
      // The stream still is at the flush when the CPU has enqueued all of this: no launch is timed.
      if (r >= 0) Check(cudaEventRecord(begins[at].get(), stream), "cudaEventRecord");
      variant.run(stream);
      if (r >= 0) Check(cudaEventRecord(ends[at++].get(), stream), "cudaEventRecord");
    }
    if ((r + kWarmUps) % kMostAhead == kMostAhead - 1) {
      Check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    }
  }
  Check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  std::vector<std::vector<double>> times(variants.size());
  for (at = 0; at < timed; ++at) {
    float ms = 0;
    Check(cudaEventElapsedTime(&ms, begins[at].get(), ends[at].get()), "cudaEventElapsedTime");
    times[at % variants.size()].push_back(ms * 1e3);
  }
  return times;
}

}  // namespace syncnorm::bench::gpu
