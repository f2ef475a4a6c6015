#include "tests/client/torch/checkpoint.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

namespace syncnorm::testing {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Holder : torch::CustomClassHolder {
  explicit Holder(Segment held) : segment(std::move(held)) {}
  const Segment segment;
};

struct CheckpointFunction : torch::autograd::Function<CheckpointFunction> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const c10::intrusive_ptr<Holder>& holder) {
    context->save_for_backward({x});
    context->saved_data["segment"] = c10::IValue::make_capsule(holder);
    return holder->segment(x);  // an autograd function's forward has no graph
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto capsule = context->saved_data["segment"].toCapsule();
    const torch::Tensor x = context->get_saved_variables()[0].detach().requires_grad_();
    torch::Tensor y;
    {
      const torch::AutoGradMode with_graph(true);
      y = static_cast<const Holder*>(capsule.get())->segment(x);
    }
    torch::autograd::backward({y}, {gradients[0]});
    return {x.grad(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor Checkpoint(const Segment& segment, const torch::Tensor& x) {
  return CheckpointFunction::apply(x, c10::make_intrusive<Holder>(segment));
}

}  // namespace syncnorm::testing
