// A norm's layer on a device, its tensors and its parameters, as one worker of a bench has them.
//
// Errors of the library are thrown as LayerError, those of CUDA as CudaError.
//
// Thread-safety: none; each worker is one thread's.
#pragma once

#include <syncnorm/device.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "bench/gpu/device.h"
#include "bench/gpu/protocol.h"

namespace syncnorm::bench::gpu {

class LayerError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void Check(const absl::Status& status, const char* what) {
  if (!status.ok()) throw LayerError(std::string(what) + ": " + status.ToString());
}

// x and dy of a rank, where a result goes; the same for all layers of the worker.
struct WorkerTensors {
  WorkerTensors(const Case& c, int rank);
  std::vector<uint8_t> ReadOut() const;

  size_t bytes;
  DeviceBytes x, dy, out;
};
class Layer {
 public:
  virtual ~Layer() = default;
  // Both write to tensors.out.
  virtual void Forward(cudaStream_t stream) = 0;
  virtual void Backward(cudaStream_t stream) = 0;
  // Ends what is under way, so that all members have made the same rounds.
  virtual void Drain(cudaStream_t stream) = 0;
};

// `tensors` and `reducer` must outlive it; no reducer: local.  PowerNorm is one whose warm-up is
// over from the start.
std::unique_ptr<Layer> MakeLayer(const Case& c, const std::string& name,
                                 const WorkerTensors& tensors, DeviceReducer* reducer);

}  // namespace syncnorm::bench::gpu
