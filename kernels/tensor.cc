#include <syncnorm/tensor.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace syncnorm {
namespace {

int64_t Product(absl::Span<const int64_t> shape) {
  int64_t product = 1;
  for (int64_t size : shape) product *= size;
  return product;
}

// An empty dimension counts as one, so that no stride is 0.
int64_t Step(int64_t size) { return std::max<int64_t>(size, 1); }

}  // namespace

size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 4;
    case DType::kF64:
      return 8;
    case DType::kF16:
    case DType::kBF16:
      return 2;
  }
  return 0;
}

std::string_view Name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
  }
  return "unknown";
}

int64_t ConstTensor::elements() const { return Product(shape); }
int64_t Tensor::elements() const { return Product(shape); }

std::vector<int64_t> ContiguousStrides(absl::Span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= Step(shape[i]);
  }
  return strides;
}

std::vector<int64_t> ChannelsLastStrides(absl::Span<const int64_t> shape) {
  if (shape.size() < 2) return ContiguousStrides(shape);
  std::vector<int64_t> strides(shape.size());
  strides[1] = 1;
  int64_t step = Step(shape[1]);
  for (size_t i = shape.size(); i-- > 2;) {
    strides[i] = step;
    step *= Step(shape[i]);
  }
  strides[0] = step;
  return strides;
}

Tensor Contiguous(void* data, DType dtype, std::vector<int64_t> shape) {
  std::vector<int64_t> strides = ContiguousStrides(shape);
  return {data, dtype, std::move(shape), std::move(strides)};
}

Tensor ChannelsLast(void* data, DType dtype, std::vector<int64_t> shape) {
  std::vector<int64_t> strides = ChannelsLastStrides(shape);
  return {data, dtype, std::move(shape), std::move(strides)};
}

ConstTensor Contiguous(const void* data, DType dtype, std::vector<int64_t> shape) {
  std::vector<int64_t> strides = ContiguousStrides(shape);
  return {data, dtype, std::move(shape), std::move(strides)};
}

ConstTensor ChannelsLast(const void* data, DType dtype, std::vector<int64_t> shape) {
  std::vector<int64_t> strides = ChannelsLastStrides(shape);
  return {data, dtype, std::move(shape), std::move(strides)};
}

std::string Describe(const ConstTensor& tensor) {
  // Debian builds Abseil with its own string_view, which StrCat wants and std's is not.
  std::string text(Name(tensor.dtype));
  absl::StrAppend(&text, " (", absl::StrJoin(tensor.shape, ", "), ") strides (",
                  absl::StrJoin(tensor.strides, ", "), ")");
  return text;
}

}  // namespace syncnorm
