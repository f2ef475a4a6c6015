// _core.PowerNorm: a SyncPowerNorm whose values are the caller's tensors.
#include <pybind11/stl.h>
#include <syncnorm/power_norm.h>

#include <cstring>
#include <string>
#include <vector>

#include "python/src/group.h"
#include "python/src/norm.h"
#include "python/src/power_norm_options.h"
#include "python/src/tensor.h"

namespace syncnorm::python {
namespace {

namespace py = ::pybind11;
using OptionalView = std::optional<View>;

struct PowerNorm {
  std::shared_ptr<GroupHolder> group;  // may be null; outlives core
  std::unique_ptr<SyncPowerNorm> core;
  double waited = 0;  // seconds
};

struct PowerNormContext {
  std::shared_ptr<PowerNorm> norm;
  SyncPowerNorm::Context context;
};

std::shared_ptr<PowerNorm> Create(std::string name, int64_t channels, double eps, double alpha_fwd,
                                  double alpha_bkw, bool affine, int64_t warmup_iters,
                                  int64_t groups, double group_eps, const std::string& semantics,
                                  std::optional<bool> masked_backward, const std::string& schedule,
                                  int64_t kept_forwards, std::shared_ptr<GroupHolder> group) {
  const PowerNormOptions options = ValueOrRaise(
      MakePowerNormOptions(channels, eps, alpha_fwd, alpha_bkw, affine, warmup_iters, groups,
                           group_eps, semantics, masked_backward, schedule, kept_forwards));
  auto core = ValueOrRaise(SyncPowerNorm::Create(std::move(name), options, group.get()));
  return std::make_shared<PowerNorm>(PowerNorm{std::move(group), std::move(core)});
}

// Replaces the state of a core that is drained.
void Load(PowerNorm* norm, const OptionalView& weight, const OptionalView& bias,
          const View& running_phi, const View& ema_gz, int64_t iters) {
  auto state = ValueOrRaise(norm->core->State());
  if (weight.has_value()) Read(weight, "weight", &state.at("weight"));
  if (bias.has_value()) Read(bias, "bias", &state.at("bias"));
  Read(running_phi, "running_phi", &state.at("running_phi"));
  Read(ema_gz, "ema_gz", &state.at("ema_gz"));
  state.at("iters")[0] = static_cast<double>(iters);
  RaiseIfError(norm->core->LoadState(state));
}

// Gives the state of a core that is drained; returns iters.
int64_t Store(PowerNorm* norm, const OptionalView& weight, const OptionalView& bias,
              const OptionalView& running_phi, const OptionalView& ema_gz) {
  const auto state = ValueOrRaise(norm->core->State());
  if (weight.has_value()) Write(state.at("weight"), "weight", weight);
  if (bias.has_value()) Write(state.at("bias"), "bias", bias);
  Write(state.at("running_phi"), "running_phi", running_phi);
  Write(state.at("ema_gz"), "ema_gz", ema_gz);
  return static_cast<int64_t>(state.at("iters")[0]);
}

std::shared_ptr<PowerNormContext> Forward(const std::shared_ptr<PowerNorm>& norm, const View& x,
                                          const View& y, std::optional<uintptr_t> pad_mask,
                                          const OptionalView& weight, const OptionalView& bias,
                                          bool training, bool keep, const py::object& kernels) {
  auto kept = keep ? std::make_shared<PowerNormContext>() : nullptr;
  SyncPowerNorm* const core = norm->core.get();
  Read(weight, "weight", &core->weight());
  Read(bias, "bias", &core->bias());
  core->set_training(training);
  const auto* padding = reinterpret_cast<const uint8_t*>(pad_mask.value_or(0));
  CallNorm(kernels, [&] {
    return Timed(*core, &norm->waited, [&] {
      return core->Forward(x.tensor(), padding, y.tensor(),
                           kept != nullptr ? &kept->context : nullptr);
    });
  });
  if (kept != nullptr) kept->norm = norm;
  return kept;
}

void Backward(PowerNormContext* kept, const View& x, const View& dy, const OptionalView& dx,
              const OptionalView& weight, const OptionalView& d_weight, const OptionalView& d_bias,
              double grad_scale, const py::object& kernels) {
  SyncPowerNorm* const core = kept->norm->core.get();
  Read(weight, "weight", &core->weight());
  kept->context.x = x.tensor();
  const std::optional<Tensor> out = dx ? std::optional(dx->tensor()) : std::nullopt;
  SyncPowerNorm::Gradients gradients;
  CallNorm(kernels, [&] {
    return Timed(*core, &kept->norm->waited, [&] {
      return core->Backward(kept->context, dy.tensor(), out ? &*out : nullptr, &gradients,
                            grad_scale);
    });
  });
  Write(gradients.weight, "the gradient of weight", d_weight);
  Write(gradients.bias, "the gradient of bias", d_bias);
}

}  // namespace

void BindPowerNorm(py::module_* module) {
  py::class_<PowerNormContext, std::shared_ptr<PowerNormContext>>(*module, "PowerNormContext")
      .def("backward", &Backward, py::arg("x"), py::arg("dy"), py::arg("dx"), py::arg("weight"),
           py::arg("d_weight"), py::arg("d_bias"), py::arg("grad_scale"), py::arg("kernels"));
  py::class_<PowerNorm, std::shared_ptr<PowerNorm>>(*module, "PowerNorm")
      .def(py::init(&Create), py::arg("name"), py::arg("channels"), py::arg("eps"),
           py::arg("alpha_fwd"), py::arg("alpha_bkw"), py::arg("affine"), py::arg("warmup_iters"),
           py::arg("groups"), py::arg("group_eps"), py::arg("semantics"),
           py::arg("masked_backward"), py::arg("schedule"), py::arg("kept_forwards"),
           py::arg("group"))
      .def("set_state_hooks",
           [](PowerNorm* norm, Hook before_save, Hook after_load) {
             SetStateHooks(norm->core.get(), std::move(before_save), std::move(after_load));
           })
      .def("load", &Load)
      .def("store", &Store)
      .def("drain",
           [](PowerNorm* norm) { RaiseIfError(Blocking([norm] { return norm->core->Drain(); })); })
      .def("forward", &Forward)
      .def_property_readonly("blocking_waits",
                             [](const PowerNorm& n) { return n.core->blocking_waits(); })
      .def_readonly("waited", &PowerNorm::waited)
      .def_property_readonly("need_sync", [](const PowerNorm& n) { return n.core->need_sync(); });
}

}  // namespace syncnorm::python
