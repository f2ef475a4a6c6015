#include "bench/kernels/pytorch.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/version.h>

#include <memory>
#include <tuple>

namespace syncnorm::bench {
namespace {

constexpr double kMomentum = 0.1;
constexpr double kEps = 1e-5;

at::ScalarType ScalarType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kF64:
      return at::kDouble;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
  }
  return at::kFloat;
}

// One layer and the tensors of one step.
struct Layer {
  at::Tensor x, dy, weight, bias, running_mean, running_var, save_mean, save_invstd;

  void Forward() {
    at::Tensor y;
    std::tie(y, save_mean, save_invstd) = at::native_batch_norm(
        x, weight, bias, running_mean, running_var, /*training=*/true, kMomentum, kEps);
  }
  void Backward() {
    at::native_batch_norm_backward(dy, x, weight, running_mean, running_var, save_mean, save_invstd,
                                   /*train=*/true, kEps, {true, true, true});
  }
};

}  // namespace

std::string PyTorchVersion() { return TORCH_VERSION; }

PyTorchCalls PyTorchBatchNorm(void* x, void* dy, DType dtype, const std::vector<int64_t>& shape,
                              bool channels_last) {
  at::set_num_threads(1);
  const at::TensorOptions options = at::TensorOptions().dtype(ScalarType(dtype));
  const std::vector<int64_t> strides =
      channels_last ? ChannelsLastStrides(shape) : ContiguousStrides(shape);
  const auto ones = [&] { return at::ones({shape[1]}, options); };
  const auto zeros = [&] { return at::zeros({shape[1]}, options); };
  auto layer = std::make_shared<Layer>();
  layer->x = at::from_blob(x, shape, strides, options);
  layer->dy = at::from_blob(dy, shape, strides, options);
  try {
    layer->weight = ones();
    layer->bias = zeros();
    layer->running_mean = zeros();
    layer->running_var = ones();
    layer->Forward();
    layer->Backward();
  } catch (const c10::Error&) {
    return {};  // "not implemented for 'Half'"
  }
  return {[layer] { layer->Forward(); }, [layer] { layer->Backward(); }};
}

}  // namespace syncnorm::bench
