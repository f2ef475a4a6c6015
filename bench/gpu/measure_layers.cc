// bench_gpu_layers: measures the layers of one case after the other (protocol.h).  bench_gpu.py
// runs it.
#include <nlohmann/json.hpp>

#include "bench/gpu/layer.h"
#include "bench/gpu/layer_cases.h"
#include "bench/gpu/serve.h"

namespace syncnorm::bench::gpu {
namespace {

nlohmann::json Measure(const Case& c, const Device& device) {
  try {
    return MeasureLayers(c, device);
  } catch (const LayerError& e) {
    return {{"error", e.what()}};
  }
}

}  // namespace
}  // namespace syncnorm::bench::gpu

int main() { return syncnorm::bench::gpu::Serve(syncnorm::bench::gpu::Measure); }
