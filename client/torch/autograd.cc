#include "client/torch/autograd.h"

#include <syncnorm/recompute.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>

#include <optional>

namespace syncnorm::nn {
namespace {

using ::torch::autograd::AutogradContext;
using ::torch::autograd::variable_list;

c10::optional<at::Tensor> IfDefined(const at::Tensor& tensor) {
  return tensor.defined() ? c10::optional<at::Tensor>(tensor) : c10::nullopt;
}

// Whether the engine is evaluating a node in this thread.  A checkpoint runs its segment again
// inside its own node's backward, or where a node unpacks what it saved: there is no other reason
// for a training forward there.
bool InsideABackward() {
  return ::torch::autograd::get_current_graph_task_nodes_in_graph() != nullptr;
}

at::Tensor OfType(const std::vector<double>& values, const at::Tensor& like) {
  at::Tensor tensor = at::empty(like.sizes(), like.options());
  Write(values, tensor);
  return tensor;
}

struct NormFunction : public ::torch::autograd::Function<NormFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const c10::optional<at::Tensor>& weight,
                            const c10::optional<at::Tensor>& bias,
                            const c10::intrusive_ptr<NormCall>& call, MemoryOrder order,
                            bool keep) {
    const at::Tensor input = InOrder(x, order);
    const at::Tensor output = EmptyInOrder(input, order);
    call->SetParameters(weight.value_or(at::Tensor()), bias.value_or(at::Tensor()));
    ThrowIfError(call->Forward(View(input, order), View(output, order), keep));
    if (keep) {
      // Through autograd, which refuses a backward if one of them was changed since.
      context->save_for_backward(
          {input, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())});
      context->saved_data["call"] = c10::IValue::make_capsule(call);
      context->saved_data["order"] = static_cast<int64_t>(order);
    }
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    if (at::GradMode::is_enabled()) {
      ThrowIfError(absl::UnimplementedError(
          "the gradient of a gradient (create_graph) is not supported by synchronised norms"));
    }
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &input = saved[0], &weight = saved[1], &bias = saved[2];
    const auto order = static_cast<MemoryOrder>(context->saved_data["order"].toInt());
    const auto capsule = context->saved_data["call"].toCapsule();
    auto* call = static_cast<NormCall*>(capsule.get());

    // Other forwards may have run since: the parameters are those of this one.
    call->SetParameters(weight, bias);
    const at::Tensor x = InOrder(input, order), dy = InOrder(gradients[0], order);
    at::Tensor dx;
    std::optional<Tensor> dx_view;
    if (context->needs_input_grad(0)) {
      dx = EmptyInOrder(input, order);
      dx_view = View(dx, order);
    }
    std::vector<double> d_weight, d_bias;
    ThrowIfError(call->Backward(View(x, order), View(dy, order), dx_view ? &*dx_view : nullptr,
                                &d_weight, &d_bias));

    variable_list result(6);
    result[0] = dx;
    if (weight.defined()) {
      // Edges count tensors only: x, weight, bias.
      if (context->needs_input_grad(1)) result[1] = OfType(d_weight, weight);
      if (context->needs_input_grad(2)) result[2] = OfType(d_bias, bias);
    }
    return result;
  }
};

}  // namespace

at::Tensor Apply(const c10::intrusive_ptr<NormCall>& call, const at::Tensor& x,
                 const at::Tensor& weight, const at::Tensor& bias, MemoryOrder order) {
  const bool keep = at::GradMode::is_enabled() &&
                    (x.requires_grad() || (weight.defined() && weight.requires_grad()) ||
                     (bias.defined() && bias.requires_grad()));
  std::optional<RecomputeScope> recomputation;
  if (InsideABackward()) recomputation.emplace();
  return NormFunction::apply(x, IfDefined(weight), IfDefined(bias), call, order, keep);
}

}  // namespace syncnorm::nn
