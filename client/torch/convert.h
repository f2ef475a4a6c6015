// Between LibTorch's tensors and the library's: types, memory orders, and
// per-channel values.  Everything throws StatusError on what a caller got wrong.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <ATen/core/Tensor.h>
#include <syncnorm/tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace syncnorm::nn {

// Throws StatusError unless OK.
void ThrowIfError(const absl::Status& status);
// What `body` returns, or throws, the layer's name in front: a StatusError's status;
// kInvalidArgument with the text of what LibTorch throws at a tensor.
absl::Status Caught(const std::string& layer, const std::function<absl::Status()>& body);

// Which dimension of (N, C, S...) runs fastest in memory.
enum class MemoryOrder { kContiguous, kChannelsLast };

// Refuses tensors of a device other than the CPU and of a type that the library does not
// have; `what` names the tensor ("input"), `layer` the module.
void CheckSupported(const at::Tensor& tensor, const char* what, const std::string& layer);

// The order that `tensor` has; kContiguous for one that has neither.
MemoryOrder OrderOf(const at::Tensor& tensor);
// `tensor` itself if its memory is in `order`, or a copy that is.
at::Tensor InOrder(const at::Tensor& tensor, MemoryOrder order);
// A new tensor of the type and shape of `tensor`, in `order`.
at::Tensor EmptyInOrder(const at::Tensor& tensor, MemoryOrder order);

// The library's view of a tensor that is in `order`.
Tensor View(const at::Tensor& tensor, MemoryOrder order);

// Reads and writes all elements of a contiguous floating or int64 tensor of any shape, in
// order; kInvalidArgument names `what` if it does not have `values->size()` elements.
void Read(const at::Tensor& tensor, const char* what, std::vector<double>* values);
void Write(const std::vector<double>& values, const at::Tensor& tensor);

}  // namespace syncnorm::nn
