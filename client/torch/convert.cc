#include "client/torch/convert.h"

#include <ATen/ATen.h>
#include <syncnorm/torch.h>

#include "absl/strings/str_cat.h"

namespace syncnorm::nn {
namespace {

// (N, C, S...) -> (N, S..., C), as a view.
at::Tensor ChannelsMovedLast(const at::Tensor& tensor) { return tensor.movedim(1, -1); }

DType TypeOf(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return DType::kF32;
    case at::kDouble:
      return DType::kF64;
    case at::kHalf:
      return DType::kF16;
    case at::kBFloat16:
      return DType::kBF16;
    default:
      ThrowIfError(absl::InvalidArgumentError(
          absl::StrCat("type ", at::toString(tensor.scalar_type()), " is not supported")));
  }
  return DType::kF32;  // not reached
}

}  // namespace

StatusError::StatusError(absl::Status status)
    // Without the payloads: they are bytes for programs.
    : c10::Error(status.ToString(absl::StatusToStringMode::kWithNoExtraData), /*backtrace=*/""),
      status_(std::move(status)) {}

void ThrowIfError(const absl::Status& status) {
  if (!status.ok()) throw StatusError(status);
}

absl::Status Caught(const std::string& layer, const std::function<absl::Status()>& body) {
  try {
    return body();
  } catch (const StatusError& error) {
    return absl::Status(error.status().code(),
                        absl::StrCat("layer ", layer, ": ", error.status().message()));
  } catch (const c10::Error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, ": ", error.what_without_backtrace()));
  }
}

void CheckSupported(const at::Tensor& tensor, const char* what, const std::string& layer) {
  const auto refuse = [&](const std::string& why) {
    ThrowIfError(absl::InvalidArgumentError(absl::StrCat(layer, ": ", what, " ", why)));
  };
  if (!tensor.defined()) refuse("is undefined");
  if (!tensor.device().is_cpu()) {
    refuse(absl::StrCat("is on ", tensor.device().str(), "; only CPU tensors are supported"));
  }
  switch (tensor.scalar_type()) {
    case at::kFloat:
    case at::kDouble:
    case at::kHalf:
    case at::kBFloat16:
      return;
    default:
      refuse(absl::StrCat("has type ", at::toString(tensor.scalar_type()),
                          "; supported are Float, Double, Half and BFloat16"));
  }
}

MemoryOrder OrderOf(const at::Tensor& tensor) {
  if (tensor.dim() < 3 || tensor.is_contiguous()) return MemoryOrder::kContiguous;
  return ChannelsMovedLast(tensor).is_contiguous() ? MemoryOrder::kChannelsLast
                                                   : MemoryOrder::kContiguous;
}

at::Tensor InOrder(const at::Tensor& tensor, MemoryOrder order) {
  if (order == MemoryOrder::kContiguous) return tensor.contiguous();
  return ChannelsMovedLast(tensor).contiguous().movedim(-1, 1);
}

at::Tensor EmptyInOrder(const at::Tensor& tensor, MemoryOrder order) {
  if (order == MemoryOrder::kContiguous) {
    return at::empty(tensor.sizes(), tensor.options());
  }
  return at::empty(ChannelsMovedLast(tensor).sizes(), tensor.options()).movedim(-1, 1);
}

Tensor View(const at::Tensor& tensor, MemoryOrder order) {
  const DType type = TypeOf(tensor);
  std::vector<int64_t> shape = tensor.sizes().vec();
  // Not the tensor's own strides: LibTorch leaves those of dimensions of size 1 open.
  return order == MemoryOrder::kContiguous
             ? Contiguous(tensor.data_ptr(), type, std::move(shape))
             : ChannelsLast(tensor.data_ptr(), type, std::move(shape));
}

void Read(const at::Tensor& tensor, const char* what, std::vector<double>* values) {
  if (!tensor.defined() || tensor.numel() != static_cast<int64_t>(values->size())) {
    ThrowIfError(absl::InvalidArgumentError(absl::StrCat(
        what, " has ", tensor.defined() ? tensor.numel() : 0, " elements, not ", values->size())));
  }
  const at::Tensor source = tensor.device().is_cpu() && tensor.is_contiguous()
                                ? tensor
                                : tensor.detach().cpu().contiguous();
  AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, source.scalar_type(), "Read", [&] {
    const scalar_t* data = source.data_ptr<scalar_t>();
    for (size_t i = 0; i < values->size(); ++i) (*values)[i] = static_cast<double>(data[i]);
  });
}

void Write(const std::vector<double>& values, const at::Tensor& tensor) {
  AT_DISPATCH_ALL_TYPES_AND2(at::kHalf, at::kBFloat16, tensor.scalar_type(), "Write", [&] {
    scalar_t* data = tensor.data_ptr<scalar_t>();
    for (size_t i = 0; i < values.size(); ++i) data[i] = static_cast<scalar_t>(values[i]);
  });
}

}  // namespace syncnorm::nn
