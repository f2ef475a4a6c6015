// Prints what one call of a layer puts into its stream, as a CUDA graph that captured it tells:
//
//   BatchNorm;forward, local;3 kernels;0 copies
//
// Clearing memory that is new is not counted: what a graph captures gets some of its own.
// launches_test.py holds bench/gpu/traffic.py against it.  Calls that need a round cannot be
// captured.
#include <cuda_runtime_api.h>
#include <syncnorm/device_batch_norm.h>
#include <syncnorm/device_power_norm.h>

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "bench/gpu/device.h"
#include "bench/gpu/layer.h"

namespace syncnorm::bench::gpu {
namespace {

void Count(const std::string& call, cudaStream_t stream, const std::function<void()>& enqueue) {
  enqueue();  // the first of its shape allocates
  Check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  enqueue();
  cudaGraph_t graph = nullptr;
  Check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  size_t count = 0;
  Check(cudaGraphGetNodes(graph, nullptr, &count), "cudaGraphGetNodes");
  std::vector<cudaGraphNode_t> nodes(count);
  Check(cudaGraphGetNodes(graph, nodes.data(), &count), "cudaGraphGetNodes");
  int kernels = 0, copies = 0;
  for (cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type;
    Check(cudaGraphNodeGetType(node, &type), "cudaGraphNodeGetType");
    if (type == cudaGraphNodeTypeKernel) {
      ++kernels;
    } else if (type == cudaGraphNodeTypeMemcpy) {
      ++copies;
    }
  }
  std::printf("%s;%d kernels;%d copies\n", call.c_str(), kernels, copies);
  Check(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

void CountAll() {
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  for (bool power_norm : {false, true}) {
    const Case c{.power_norm = power_norm, .n = 3, .channels = 8, .height = 2, .width = 2};
    const std::string norm = power_norm ? "PowerNorm" : "BatchNorm";
    const WorkerTensors tensors(c, 0);
    const auto layer = MakeLayer(c, "layer", tensors, nullptr);
    Count(norm + ";forward, local", stream, [&] { layer->Forward(stream); });
    layer->Forward(stream);  // what was captured has not run
    Count(norm + ";backward, local", stream, [&] { layer->Backward(stream); });
  }

  const DeviceBytes x(3 * 8 * sizeof(float)), y(3 * 8 * sizeof(float)), one(8 * sizeof(double));
  const DeviceBytes iters(sizeof(int64_t));
  const DeviceValues values{one.get(), DType::kF64};
  const void* const in = x.get();
  const ConstTensor from = Contiguous(in, DType::kF32, {3, 8});
  const Tensor to = Contiguous(y.get(), DType::kF32, {3, 8});
  auto batch_norm = DeviceBatchNorm::Create(
      "eval", {.channels = 8}, 0,
      {.weight = values, .bias = values, .running_mean = values, .running_var = values}, nullptr);
  Check(batch_norm.status(), "DeviceBatchNorm::Create");
  (*batch_norm)->set_training(false);
  Count("BatchNorm;forward, eval", stream,
        [&] { Check((*batch_norm)->Forward(from, nullptr, to, nullptr, stream), "Forward"); });
  auto power_norm = DevicePowerNorm::Create("eval", {.channels = 8}, 0,
                                            {.weight = values,
                                             .bias = values,
                                             .running_phi = values,
                                             .ema_gz = values,
                                             .iters = iters.as<int64_t>()},
                                            nullptr);
  Check(power_norm.status(), "DevicePowerNorm::Create");
  (*power_norm)->set_training(false);
  Count("PowerNorm;forward, eval", stream,
        [&] { Check((*power_norm)->Forward(from, nullptr, to, nullptr, stream), "Forward"); });
}

}  // namespace
}  // namespace syncnorm::bench::gpu

int main() {
  try {
    syncnorm::bench::gpu::CountAll();
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
