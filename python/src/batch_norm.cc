// _core.BatchNorm: a SyncBatchNorm whose values are the caller's tensors.
#include <pybind11/stl.h>
#include <syncnorm/batch_norm.h>

#include <string>
#include <vector>

#include "python/src/group.h"
#include "python/src/norm.h"
#include "python/src/tensor.h"

namespace syncnorm::python {
namespace {

namespace py = ::pybind11;
using OptionalView = std::optional<View>;

// The norm, and the group that it is of.
struct BatchNorm {
  std::shared_ptr<GroupHolder> group;  // may be null; outlives core
  std::unique_ptr<SyncBatchNorm> core;
};

struct BatchNormContext {
  std::shared_ptr<BatchNorm> norm;
  SyncBatchNorm::Context context;
};

std::shared_ptr<BatchNorm> Create(std::string name, int64_t channels, double eps,
                                  std::optional<double> momentum, bool affine,
                                  bool track_running_stats, int64_t kept_forwards,
                                  std::shared_ptr<GroupHolder> group) {
  const BatchNormOptions options{channels,     eps, momentum, affine, track_running_stats,
                                 kept_forwards};
  auto core = ValueOrRaise(SyncBatchNorm::Create(std::move(name), options, group.get()));
  return std::make_shared<BatchNorm>(BatchNorm{std::move(group), std::move(core)});
}

void ReadParameters(SyncBatchNorm* core, const OptionalView& weight, const OptionalView& bias) {
  Read(weight, "weight", &core->weight());
  Read(bias, "bias", &core->bias());
}

// Takes all values from the caller's tensors.
void Load(BatchNorm* norm, const OptionalView& weight, const OptionalView& bias,
          const OptionalView& running_mean, const OptionalView& running_var, int64_t tracked) {
  ReadParameters(norm->core.get(), weight, bias);
  Read(running_mean, "running_mean", &norm->core->running_mean());
  Read(running_var, "running_var", &norm->core->running_var());
  norm->core->num_batches_tracked() = tracked;
}

// Gives them back; returns num_batches_tracked.
int64_t Store(BatchNorm* norm, const OptionalView& weight, const OptionalView& bias,
              const OptionalView& running_mean, const OptionalView& running_var) {
  if (weight.has_value()) Write(norm->core->weight(), "weight", weight);
  if (bias.has_value()) Write(norm->core->bias(), "bias", bias);
  Write(norm->core->running_mean(), "running_mean", running_mean);
  Write(norm->core->running_var(), "running_var", running_var);
  return norm->core->num_batches_tracked();
}

// `mask`: bytes (F32 in the view: floats), or null.
std::shared_ptr<BatchNormContext> Forward(const std::shared_ptr<BatchNorm>& norm, const View& x,
                                          const View& y, const OptionalView& mask, bool byte_mask,
                                          bool training, bool keep, const py::object& kernels) {
  std::optional<PositionMask> positions;
  if (mask.has_value()) {
    positions =
        PositionMask{reinterpret_cast<const void*>(mask->address),
                     byte_mask ? PositionMask::Type::kByte : PositionMask::Type::kF32, mask->shape};
  }
  auto kept = keep ? std::make_shared<BatchNormContext>() : nullptr;
  norm->core->set_training(training);
  CallNorm(kernels, [&] {
    return norm->core->Forward(x.tensor(), positions ? &*positions : nullptr, y.tensor(),
                               kept != nullptr ? &kept->context : nullptr);
  });
  if (kept != nullptr) kept->norm = norm;
  return kept;
}

// `x` is what the forward had, perhaps at another address since.
void Backward(BatchNormContext* kept, const View& x, const View& dy, const OptionalView& dx,
              const OptionalView& weight, const OptionalView& d_weight, const OptionalView& d_bias,
              const py::object& kernels) {
  SyncBatchNorm* const core = kept->norm->core.get();
  // Other forwards may have run since: the weight is that of this one.
  Read(weight, "weight", &core->weight());
  kept->context.x = x.tensor();
  const std::optional<Tensor> out = dx ? std::optional(dx->tensor()) : std::nullopt;
  SyncBatchNorm::Gradients gradients;
  CallNorm(kernels, [&] {
    return core->Backward(kept->context, dy.tensor(), out ? &*out : nullptr, &gradients);
  });
  Write(gradients.weight, "the gradient of weight", d_weight);
  Write(gradients.bias, "the gradient of bias", d_bias);
}

}  // namespace

void BindBatchNorm(py::module_* module) {
  py::class_<BatchNormContext, std::shared_ptr<BatchNormContext>>(*module, "BatchNormContext")
      .def("backward", &Backward, py::arg("x"), py::arg("dy"), py::arg("dx"), py::arg("weight"),
           py::arg("d_weight"), py::arg("d_bias"), py::arg("kernels"));
  py::class_<BatchNorm, std::shared_ptr<BatchNorm>>(*module, "BatchNorm")
      .def(py::init(&Create), py::arg("name"), py::arg("channels"), py::arg("eps"),
           py::arg("momentum"), py::arg("affine"), py::arg("track_running_stats"),
           py::arg("kept_forwards"), py::arg("group"))
      .def("set_state_hooks",
           [](BatchNorm* norm, Hook before_save, Hook after_load) {
             SetStateHooks(norm->core.get(), std::move(before_save), std::move(after_load));
           })
      .def("set_eps_and_momentum",
           [](BatchNorm* norm, double eps, std::optional<double> momentum) {
             RaiseIfError(norm->core->SetEpsAndMomentum(eps, momentum));
           })
      .def("save", [](BatchNorm* norm) { return py::bytes(ValueOrRaise(norm->core->Save())); })
      .def("load_state",
           [](BatchNorm* norm, const std::string& state) { RaiseIfError(norm->core->Load(state)); })
      .def("load", &Load)
      .def("store", &Store)
      .def("forward", &Forward)
      .def_property_readonly("need_sync", [](const BatchNorm& n) { return n.core->need_sync(); });
}

}  // namespace syncnorm::python
