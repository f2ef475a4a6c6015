// The one autograd node behind both modules.  A NormCall is one forward of a norm together with
// what its backward needs; Apply runs the forward and, if a gradient will be
// asked for, leaves a node in the graph that owns the call.  Inside a backward pass the
// forward is a recomputation (syncnorm/recompute.h).
//
// Thread-safety: thread-compatible.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <syncnorm/tensor.h>

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "client/torch/convert.h"

namespace syncnorm::nn {

// What a graph has of its module: a graph must not keep a module, and with it a use of the group,
// alive.  Throws StatusError (kFailedPrecondition) when the module is gone.
template <typename Core>
std::shared_ptr<Core> Lock(const std::weak_ptr<Core>& core) {
  std::shared_ptr<Core> alive = core.lock();
  if (alive == nullptr) {
    ThrowIfError(absl::FailedPreconditionError("the module of this backward was destroyed"));
  }
  return alive;
}

class NormCall : public ::torch::CustomClassHolder {
 public:
  // The parameters that the next Forward or Backward works with; empty when not affine.
  virtual void SetParameters(const at::Tensor& weight, const at::Tensor& bias) = 0;
  // `keep`: whether a Backward may follow.
  virtual absl::Status Forward(const ConstTensor& x, const Tensor& y, bool keep) = 0;
  // x: what Forward had, perhaps at another address since: autograd keeps it, and hooks for saved
  // tensors may move it.  dx: null when the input needs no gradient.
  virtual absl::Status Backward(const ConstTensor& x, const ConstTensor& dy, const Tensor* dx,
                                std::vector<double>* d_weight, std::vector<double>* d_bias) = 0;
};

// `weight` and `bias`: both undefined when not affine.  Throws StatusError.
at::Tensor Apply(const c10::intrusive_ptr<NormCall>& call, const at::Tensor& x,
                 const at::Tensor& weight, const at::Tensor& bias, MemoryOrder order);

}  // namespace syncnorm::nn
