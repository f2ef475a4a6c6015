#include "tests/client/device/power_norm_device_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "tests/client/device/device_memory.h"

namespace syncnorm::testing {
namespace {

// A step's tensors on the device.
struct OnDevice {
  OnDevice(const Stream& stream, const PowerNormStep& step, int rank, DType dtype,
           const PowerNormOptions& options, DType parameters)
      : weight(stream, parameters, step.weight),
        bias(stream, parameters, step.bias),
        grad_weight(stream, DType::kF64, Numbers(options.channels)),
        grad_bias(stream, DType::kF64, Numbers(options.channels)),
        x(stream, HostTensor(dtype, step.shapes[rank], Layout::kTokens, step.x[rank])),
        dy(stream, HostTensor(dtype, step.shapes[rank], Layout::kTokens, step.dy[rank])),
        y(stream, HostTensor(dtype, step.shapes[rank], Layout::kTokens)),
        dx(stream, HostTensor(dtype, step.shapes[rank], Layout::kTokens)),
        padding(stream, step.padding[rank].data(), step.padding[rank].size()) {}

  DeviceNumbers weight, bias, grad_weight, grad_bias;
  DeviceTensor x, dy, y, dx;
  DeviceBytes padding;
  DevicePowerNorm::Context context;
};

// Copies a step's parameters to where the layer has them: on the stream.
void Assign(const DeviceValues& to, const DeviceValues& from, int64_t channels,
            const Stream& stream) {
  SYNCNORM_EXPECT_CUDA(cudaMemcpyAsync(to.data, from.data,
                                       static_cast<size_t>(channels) * SizeOf(to.dtype),
                                       cudaMemcpyDeviceToDevice, stream.get()));
}

void TrainMember(int rank, const PowerNormOptions& options, DType dtype,
                 const std::vector<PowerNormStep>& steps, const DeviceTraining& training,
                 bool free_running, DeviceReducer* reducer, PowerNormTraining* all) {
  const Stream stream;
  const int64_t channels = options.channels;
  DeviceNumbers weight(stream, training.parameters, Numbers(channels, 1));
  DeviceNumbers bias(stream, training.parameters, Numbers(channels, 0));
  DeviceNumbers phi(stream, DType::kF64, Numbers(channels, 1));
  DeviceNumbers ema(stream, DType::kF64, Numbers(channels, 0));
  const DeviceCounter iters(stream, 0);
  DevicePowerNormTensors tensors{
      .running_phi = phi.values(), .ema_gz = ema.values(), .iters = iters.data()};
  if (options.affine) {
    tensors.weight = weight.values();
    tensors.bias = bias.values();
  }
  auto norm = DevicePowerNorm::Create("pn", options, 0, tensors, reducer);
  ASSERT_TRUE(norm.ok()) << norm.status();
  std::vector<std::unique_ptr<OnDevice>> data;
  for (const PowerNormStep& step : steps) {
    data.push_back(
        std::make_unique<OnDevice>(stream, step, rank, dtype, options, training.parameters));
  }
  for (size_t s = 0; s < steps.size(); ++s) {
    OnDevice& step = *data[s];
    if (options.affine) {
      Assign(weight.values(), step.weight.values(), channels, stream);
      Assign(bias.values(), step.bias.values(), channels, stream);
    }
    absl::Status status =
        (*norm)->Forward(step.x.tensor(), static_cast<const uint8_t*>(step.padding.data()),
                         step.y.tensor(), &step.context, stream.get());
    ASSERT_TRUE(status.ok()) << status;
    if (training.synchronous) stream.Synchronize();
    const Tensor dx = step.dx.tensor();
    const DevicePowerNorm::Gradients gradients{step.grad_weight.values(), step.grad_bias.values()};
    status = (*norm)->Backward(step.context, step.dy.tensor(), &dx, &gradients, stream.get(),
                               steps[s].grad_scale);
    ASSERT_TRUE(status.ok()) << status;
    if (!free_running) stream.Synchronize();
  }
  absl::Status drained = (*norm)->Drain(stream.get());
  ASSERT_TRUE(drained.ok()) << drained;
  stream.Synchronize();
  const absl::Status checked = (*norm)->Check();
  EXPECT_TRUE(checked.ok()) << checked;
  for (size_t s = 0; s < steps.size(); ++s) {
    PowerNormResult& result = all->results[s][rank];
    result.y = data[s]->y.Load();
    result.dx = data[s]->dx.Load();
    if (!options.affine) continue;
    result.gradients.weight = data[s]->grad_weight.Load();
    result.gradients.bias = data[s]->grad_bias.Load();
  }
  PowerNormState& state = all->states[rank];
  state = {{"running_phi", phi.Load()},
           {"ema_gz", ema.Load()},
           {"iters", {static_cast<double>(iters.Load())}}};
  if (!options.affine) return;
  state["weight"] = weight.Load();
  state["bias"] = bias.Load();
}

}  // namespace

PowerNormTraining TrainOnDevice(const Members& members, const PowerNormOptions& options,
                                DType dtype, const std::vector<PowerNormStep>& steps,
                                const DeviceTraining& training, bool free_running) {
  PowerNormTraining all;
  all.results.assign(steps.size(), std::vector<PowerNormResult>(members.count));
  all.states.resize(members.count);
  members.run([&](int rank, Reducer* reducer) {
    const auto& host = training.on_the_host;
    if (std::find(host.begin(), host.end(), rank) != host.end()) {
      const auto mine =
          Train({members.count, [&](const Members::Body& body) { body(rank, reducer); }}, options,
                dtype, steps);
      for (size_t s = 0; s < steps.size(); ++s) all.results[s][rank] = mine.results[s][rank];
      all.states[rank] = mine.states[rank];
      return;
    }
    auto lane = DeviceReducer::Create(reducer, {.waiting = training.waiting});
    ASSERT_TRUE(lane.ok()) << lane.status();
    TrainMember(rank, options, dtype, steps, training, free_running, lane->get(), &all);
  });
  return all;
}

}  // namespace syncnorm::testing
