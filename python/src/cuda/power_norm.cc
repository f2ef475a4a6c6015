// _cuda.PowerNorm: a DevicePowerNorm over the caller's tensors.
#include <pybind11/stl.h>
#include <syncnorm/device_power_norm.h>

#include <string>

#include "python/src/cuda/device_norm.h"
#include "python/src/power_norm_options.h"

namespace syncnorm::python {
namespace {

namespace py = ::pybind11;
using PowerNorm = DeviceNorm<DevicePowerNorm>;
using PowerNormContext = DeviceContext<DevicePowerNorm>;

DevicePowerNormTensors Tensors(const OptionalView& weight, const OptionalView& bias,
                               const View& running_phi, const View& ema_gz, uintptr_t iters) {
  return {ValuesOf(weight), ValuesOf(bias), ValuesOf(running_phi), ValuesOf(ema_gz),
          CounterOf(iters)};
}

std::shared_ptr<PowerNorm> Create(std::string name, int64_t channels, double eps, double alpha_fwd,
                                  double alpha_bkw, bool affine, int64_t warmup_iters,
                                  int64_t groups, double group_eps, const std::string& semantics,
                                  std::optional<bool> masked_backward, const std::string& schedule,
                                  int64_t kept_forwards, int device, const OptionalView& weight,
                                  const OptionalView& bias, const View& running_phi,
                                  const View& ema_gz, uintptr_t iters,
                                  std::shared_ptr<DeviceGroup> group) {
  const PowerNormOptions options = ValueOrRaiseDeviceError(
      MakePowerNormOptions(channels, eps, alpha_fwd, alpha_bkw, affine, warmup_iters, groups,
                           group_eps, semantics, masked_backward, schedule, kept_forwards));
  auto core = ValueOrRaiseDeviceError(DevicePowerNorm::Create(
      std::move(name), options, device, Tensors(weight, bias, running_phi, ema_gz, iters),
      group == nullptr ? nullptr : group->reducer.get()));
  return std::make_shared<PowerNorm>(std::move(group), std::move(core));
}

std::shared_ptr<PowerNormContext> Forward(const std::shared_ptr<PowerNorm>& norm, const View& x,
                                          const View& y, std::optional<uintptr_t> pad_mask,
                                          bool training, bool keep, bool recomputing,
                                          uintptr_t stream) {
  auto kept = keep ? std::make_shared<PowerNormContext>() : nullptr;
  norm->core->set_training(training);
  const auto* padding = reinterpret_cast<const uint8_t*>(pad_mask.value_or(0));
  Enqueue(recomputing, [&] {
    return norm->core->Forward(x.tensor(), padding, y.tensor(),
                               kept != nullptr ? &kept->context : nullptr, StreamOf(stream));
  });
  if (kept != nullptr) kept->norm = norm;
  return kept;
}

// `x` is what the forward had, perhaps at another address since.
void Backward(PowerNormContext* kept, const View& x, const View& dy, const OptionalView& dx,
              const OptionalView& d_weight, const OptionalView& d_bias, double grad_scale,
              uintptr_t stream) {
  kept->context.x = x.tensor();
  const std::optional<Tensor> out = dx ? std::optional(dx->tensor()) : std::nullopt;
  const DevicePowerNorm::Gradients gradients{ValuesOf(d_weight), ValuesOf(d_bias)};
  const bool wanted = d_weight.has_value() || d_bias.has_value();
  Enqueue(false, [&] {
    return kept->norm->core->Backward(kept->context, dy.tensor(), out ? &*out : nullptr,
                                      wanted ? &gradients : nullptr, StreamOf(stream), grad_scale);
  });
}

}  // namespace

void BindDevicePowerNorm(py::module_* module) {
  py::class_<PowerNormContext, std::shared_ptr<PowerNormContext>>(*module, "PowerNormContext")
      .def("backward", &Backward, py::arg("x"), py::arg("dy"), py::arg("dx"), py::arg("d_weight"),
           py::arg("d_bias"), py::arg("grad_scale"), py::arg("stream"));
  py::class_<PowerNorm, std::shared_ptr<PowerNorm>>(*module, "PowerNorm")
      .def(py::init(&Create), py::arg("name"), py::arg("channels"), py::arg("eps"),
           py::arg("alpha_fwd"), py::arg("alpha_bkw"), py::arg("affine"), py::arg("warmup_iters"),
           py::arg("groups"), py::arg("group_eps"), py::arg("semantics"),
           py::arg("masked_backward"), py::arg("schedule"), py::arg("kept_forwards"),
           py::arg("device"), py::arg("weight"), py::arg("bias"), py::arg("running_phi"),
           py::arg("ema_gz"), py::arg("iters"), py::arg("group"))
      .def("set_tensors",
           [](PowerNorm* norm, const OptionalView& weight, const OptionalView& bias,
              const View& running_phi, const View& ema_gz, uintptr_t iters) {
             Enqueue(false, [&] {
               return norm->core->set_tensors(Tensors(weight, bias, running_phi, ema_gz, iters));
             });
           })
      .def("set_parameters",
           [](PowerNorm* norm, const OptionalView& weight, const OptionalView& bias) {
             RaiseDeviceError(norm->core->set_parameters(ValuesOf(weight), ValuesOf(bias)));
           })
      .def(
          "drain",
          [](PowerNorm* norm, uintptr_t stream) {
            Enqueue(false, [&] { return norm->core->Drain(StreamOf(stream)); });
          },
          py::arg("stream"))
      .def("check", [](PowerNorm* norm) { RaiseDeviceError(norm->core->Check()); })
      .def("forward", &Forward, py::arg("x"), py::arg("y"), py::arg("pad_mask"),
           py::arg("training"), py::arg("keep"), py::arg("recomputing"), py::arg("stream"))
      .def_property_readonly("need_sync", [](const PowerNorm& n) { return n.core->need_sync(); });
}

}  // namespace syncnorm::python
