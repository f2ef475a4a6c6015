#include "bench/gpu/layer.h"

#include <syncnorm/device_batch_norm.h>
#include <syncnorm/device_power_norm.h>

#include <utility>

#include "bench/gpu/expected_layer.h"

namespace syncnorm::bench::gpu {
namespace {

// Values of a channel each, in double.
class Parameter {
 public:
  Parameter(int64_t channels, double value)
      : data_(static_cast<size_t>(channels) * sizeof(double)) {
    const std::vector<double> values(static_cast<size_t>(channels), value);
    data_.Put(values.data(), values.size() * sizeof(double));
  }
  DeviceValues values() const { return {data_.get(), DType::kF64}; }

 private:
  DeviceBytes data_;
};

template <class Data>
auto TensorOf(const Case& c, Data* data) {
  if (c.power_norm) return Contiguous(data, c.dtype, {c.n * c.height * c.width, c.channels});
  std::vector<int64_t> shape = {c.n, c.channels, c.height, c.width};
  return c.channels_last ? ChannelsLast(data, c.dtype, std::move(shape))
                         : Contiguous(data, c.dtype, std::move(shape));
}

// What both norms have.
class LayerBase : public Layer {
 protected:
  LayerBase(const Case& c, const WorkerTensors& tensors)
      : x_(TensorOf(c, static_cast<const void*>(tensors.x.get()))),
        dy_(TensorOf(c, static_cast<const void*>(tensors.dy.get()))),
        out_(TensorOf(c, tensors.out.get())),
        weight_(c.channels, 1),
        bias_(c.channels, 0.25),
        grad_weight_(c.channels, 0),
        grad_bias_(c.channels, 0) {}

  ConstTensor x_, dy_;
  Tensor out_;
  Parameter weight_, bias_, grad_weight_, grad_bias_;
};

class BatchNormLayer final : public LayerBase {
 public:
  BatchNormLayer(const Case& c, const std::string& name, const WorkerTensors& tensors,
                 DeviceReducer* reducer)
      : LayerBase(c, tensors), mean_(c.channels, 0), var_(c.channels, 1) {
    auto norm = DeviceBatchNorm::Create(name, {.channels = c.channels}, 0,
                                        {.weight = weight_.values(),
                                         .bias = bias_.values(),
                                         .running_mean = mean_.values(),
                                         .running_var = var_.values()},
                                        reducer);
    Check(norm.status(), "DeviceBatchNorm::Create");
    norm_ = *std::move(norm);
  }
  void Forward(cudaStream_t stream) override {
    Check(norm_->Forward(x_, nullptr, out_, &context_, stream), "DeviceBatchNorm::Forward");
  }
  void Backward(cudaStream_t stream) override {
    const DeviceBatchNorm::Gradients gradients{grad_weight_.values(), grad_bias_.values()};
    Check(norm_->Backward(context_, dy_, &out_, &gradients, stream), "DeviceBatchNorm::Backward");
  }
  void Drain(cudaStream_t) override {}

 private:
  Parameter mean_, var_;
  DeviceBatchNorm::Context context_;
  std::unique_ptr<DeviceBatchNorm> norm_;
};

class PowerNormLayer final : public LayerBase {
 public:
  PowerNormLayer(const Case& c, const std::string& name, const WorkerTensors& tensors,
                 DeviceReducer* reducer)
      : LayerBase(c, tensors), phi_(c.channels, 1), ema_(c.channels, 0), iters_(sizeof(int64_t)) {
    auto norm = DevicePowerNorm::Create(
        name, {.channels = c.channels, .warmup_iters = 0, .groups = c.groups}, 0,
        {.weight = weight_.values(),
         .bias = bias_.values(),
         .running_phi = phi_.values(),
         .ema_gz = ema_.values(),
         .iters = iters_.as<int64_t>()},
        reducer);
    Check(norm.status(), "DevicePowerNorm::Create");
    norm_ = *std::move(norm);
  }
  void Forward(cudaStream_t stream) override {
    Check(norm_->Forward(x_, nullptr, out_, &context_, stream), "DevicePowerNorm::Forward");
  }
  void Backward(cudaStream_t stream) override {
    const DevicePowerNorm::Gradients gradients{grad_weight_.values(), grad_bias_.values()};
    Check(norm_->Backward(context_, dy_, &out_, &gradients, stream), "DevicePowerNorm::Backward");
  }
  void Drain(cudaStream_t stream) override {
    Check(norm_->Drain(stream), "DevicePowerNorm::Drain");
  }

 private:
  Parameter phi_, ema_;
  DeviceBytes iters_;
  DevicePowerNorm::Context context_;
  std::unique_ptr<DevicePowerNorm> norm_;
};

}  // namespace

WorkerTensors::WorkerTensors(const Case& c, int rank)
    : bytes(static_cast<size_t>(c.elements()) * SizeOf(c.dtype)), x(bytes), dy(bytes), out(bytes) {
  x.Put(InputOf(c, rank).data(), bytes);
  dy.Put(GradientOf(c, rank).data(), bytes);
}

std::vector<uint8_t> WorkerTensors::ReadOut() const {
  std::vector<uint8_t> values(bytes);
  out.Get(values.data(), bytes);
  return values;
}

std::unique_ptr<Layer> MakeLayer(const Case& c, const std::string& name,
                                 const WorkerTensors& tensors, DeviceReducer* reducer) {
  if (c.power_norm) return std::make_unique<PowerNormLayer>(c, name, tensors, reducer);
  return std::make_unique<BatchNormLayer>(c, name, tensors, reducer);
}

}  // namespace syncnorm::bench::gpu
