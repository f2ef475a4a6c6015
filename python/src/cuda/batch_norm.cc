// _cuda.BatchNorm: a DeviceBatchNorm over the caller's tensors.
#include <pybind11/stl.h>
#include <syncnorm/device_batch_norm.h>

#include <string>
#include <vector>

#include "python/src/cuda/device_norm.h"

namespace syncnorm::python {
namespace {

namespace py = ::pybind11;
using BatchNorm = DeviceNorm<DeviceBatchNorm>;
using BatchNormContext = DeviceContext<DeviceBatchNorm>;

DeviceBatchNormTensors Tensors(const OptionalView& weight, const OptionalView& bias,
                               const OptionalView& running_mean, const OptionalView& running_var,
                               std::optional<uintptr_t> tracked) {
  return {ValuesOf(weight), ValuesOf(bias), ValuesOf(running_mean), ValuesOf(running_var),
          CounterOf(tracked)};
}

std::shared_ptr<BatchNorm> Create(std::string name, int64_t channels, double eps,
                                  std::optional<double> momentum, bool affine,
                                  bool track_running_stats, int64_t kept_forwards, int device,
                                  const OptionalView& weight, const OptionalView& bias,
                                  const OptionalView& running_mean, const OptionalView& running_var,
                                  std::optional<uintptr_t> tracked,
                                  std::shared_ptr<DeviceGroup> group) {
  const BatchNormOptions options{channels,     eps, momentum, affine, track_running_stats,
                                 kept_forwards};
  auto core = ValueOrRaiseDeviceError(DeviceBatchNorm::Create(
      std::move(name), options, device, Tensors(weight, bias, running_mean, running_var, tracked),
      group == nullptr ? nullptr : group->reducer.get()));
  return std::make_shared<BatchNorm>(std::move(group), std::move(core));
}

// `mask`: bytes (F32 in the view: floats), or null.
std::shared_ptr<BatchNormContext> Forward(const std::shared_ptr<BatchNorm>& norm, const View& x,
                                          const View& y, const OptionalView& mask, bool byte_mask,
                                          bool training, bool keep, bool recomputing,
                                          uintptr_t stream) {
  std::optional<PositionMask> positions;
  if (mask.has_value()) {
    positions =
        PositionMask{reinterpret_cast<const void*>(mask->address),
                     byte_mask ? PositionMask::Type::kByte : PositionMask::Type::kF32, mask->shape};
  }
  auto kept = keep ? std::make_shared<BatchNormContext>() : nullptr;
  norm->core->set_training(training);
  Enqueue(recomputing, [&] {
    return norm->core->Forward(x.tensor(), positions ? &*positions : nullptr, y.tensor(),
                               kept != nullptr ? &kept->context : nullptr, StreamOf(stream));
  });
  if (kept != nullptr) kept->norm = norm;
  return kept;
}

// `x` is what the forward had, perhaps at another address since.
void Backward(BatchNormContext* kept, const View& x, const View& dy, const OptionalView& dx,
              const OptionalView& d_weight, const OptionalView& d_bias, uintptr_t stream) {
  kept->context.x = x.tensor();
  const std::optional<Tensor> out = dx ? std::optional(dx->tensor()) : std::nullopt;
  const DeviceBatchNorm::Gradients gradients{ValuesOf(d_weight), ValuesOf(d_bias)};
  Enqueue(false, [&] {
    return kept->norm->core->Backward(kept->context, dy.tensor(), out ? &*out : nullptr, &gradients,
                                      StreamOf(stream));
  });
}

}  // namespace

void BindDeviceBatchNorm(py::module_* module) {
  py::class_<BatchNormContext, std::shared_ptr<BatchNormContext>>(*module, "BatchNormContext")
      .def("backward", &Backward, py::arg("x"), py::arg("dy"), py::arg("dx"), py::arg("d_weight"),
           py::arg("d_bias"), py::arg("stream"));
  py::class_<BatchNorm, std::shared_ptr<BatchNorm>>(*module, "BatchNorm")
      .def(py::init(&Create), py::arg("name"), py::arg("channels"), py::arg("eps"),
           py::arg("momentum"), py::arg("affine"), py::arg("track_running_stats"),
           py::arg("kept_forwards"), py::arg("device"), py::arg("weight"), py::arg("bias"),
           py::arg("running_mean"), py::arg("running_var"), py::arg("num_batches_tracked"),
           py::arg("group"))
      .def("set_eps_and_momentum",
           [](BatchNorm* norm, double eps, std::optional<double> momentum) {
             RaiseDeviceError(norm->core->SetEpsAndMomentum(eps, momentum));
           })
      .def("set_tensors",
           [](BatchNorm* norm, const OptionalView& weight, const OptionalView& bias,
              const OptionalView& running_mean, const OptionalView& running_var,
              std::optional<uintptr_t> tracked) {
             RaiseDeviceError(norm->core->set_tensors(
                 Tensors(weight, bias, running_mean, running_var, tracked)));
           })
      .def("save",
           [](BatchNorm* norm) { return py::bytes(ValueOrRaiseDeviceError(norm->core->Save())); })
      .def("load_state",
           [](BatchNorm* norm, const std::string& state) {
             RaiseDeviceError(norm->core->Load(state));
           })
      .def("check", [](BatchNorm* norm) { RaiseDeviceError(norm->core->Check()); })
      .def("forward", &Forward, py::arg("x"), py::arg("y"), py::arg("mask"), py::arg("byte_mask"),
           py::arg("training"), py::arg("keep"), py::arg("recomputing"), py::arg("stream"))
      .def_property_readonly("need_sync", [](const BatchNorm& n) { return n.core->need_sync(); });
}

}  // namespace syncnorm::python
