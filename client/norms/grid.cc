#include "client/norms/grid.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/norms/host_memory.h"

namespace syncnorm::norms {
namespace {

using kernels::Grid;

template <typename... Parts>
absl::Status Refuse(std::string_view what, const ConstTensor& tensor, const Parts&... parts) {
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(what), " is ", Describe(tensor), ": ", parts...));
}

// What holds for every tensor, whatever its format.
absl::Status CheckSound(std::string_view what, const ConstTensor& tensor) {
  if (SizeOf(tensor.dtype) == 0) {
    return Refuse(what, tensor, "dtype ", static_cast<int>(tensor.dtype),
                  " is not one of f32, f64, f16, bf16");
  }
  if (tensor.strides.size() != tensor.shape.size()) {
    return Refuse(what, tensor, "it has ", tensor.shape.size(), " sizes but ",
                  tensor.strides.size(), " strides");
  }
  bool empty = false;
  for (int64_t size : tensor.shape) {
    if (size < 0) return Refuse(what, tensor, "size ", size, " is negative");
    empty |= size == 0;
  }
  if (empty) return absl::OkStatus();
  int64_t bytes = static_cast<int64_t>(SizeOf(tensor.dtype));
  for (int64_t size : tensor.shape) {
    if (__builtin_mul_overflow(bytes, size, &bytes)) {
      return Refuse(what, tensor, "it has more than 2^63 bytes");
    }
  }
  if (tensor.data == nullptr) return Refuse(what, tensor, "its data is null");
  if (reinterpret_cast<uintptr_t>(tensor.data) % SizeOf(tensor.dtype) != 0) {
    return Refuse(what, tensor, "its data is not aligned to ", SizeOf(tensor.dtype), " bytes");
  }
  return absl::OkStatus();
}

// Device memory would not be an error but a crash.
absl::Status CheckHost(std::string_view what, const ConstTensor& tensor, Memory memory) {
  const DeviceOf device_of = memory == Memory::kHost ? DeviceOfPointer().load() : nullptr;
  if (device_of == nullptr || tensor.data == nullptr) return absl::OkStatus();
  const int device = device_of(tensor.data);
  if (device < 0) return absl::OkStatus();
  return Refuse(what, tensor, "it is in memory of device ", device,
                "; this layer is on the host (there are DeviceBatchNorm and DevicePowerNorm)");
}

// Whether the memory is that of `strides`, along the dimensions where it matters.
bool HasStrides(const ConstTensor& tensor, const std::vector<int64_t>& strides) {
  for (size_t i = 0; i < strides.size(); ++i) {
    if (tensor.shape[i] > 1 && tensor.strides[i] != strides[i]) return false;
  }
  return true;
}

// The product of sizes [begin, end).  CheckSound has bounded it where all are positive.
int64_t Product(const ConstTensor& tensor, size_t begin, size_t end) {
  int64_t product = 1;
  for (size_t i = begin; i < end; ++i) {
    if (tensor.shape[i] == 0) return 0;
    if (!__builtin_mul_overflow(product, tensor.shape[i], &product)) continue;
    return 0;  // only where another size is 0
  }
  return product;
}

}  // namespace

absl::StatusOr<Grid> GridOf(std::string_view what, const ConstTensor& tensor, int64_t channels,
                            Memory memory) {
  const size_t rank = tensor.shape.size();
  if (absl::Status sound = CheckSound(what, tensor); !sound.ok()) return sound;
  if (absl::Status host = CheckHost(what, tensor, memory); !host.ok()) return host;
  if (rank < 2) return Refuse(what, tensor, "expected (N, C, S...), of rank 2 or more");
  if (tensor.shape[1] != channels) {
    return Refuse(what, tensor, "it has ", tensor.shape[1], " channels, this layer has ", channels);
  }
  if (Product(tensor, 0, rank) == 0) return Grid{0, channels, 1};
  const int64_t samples = tensor.shape[0];
  const int64_t inner = Product(tensor, 2, rank);
  if (HasStrides(tensor, ContiguousStrides(tensor.shape))) return Grid{samples, channels, inner};
  if (HasStrides(tensor, ChannelsLastStrides(tensor.shape))) {
    return Grid{samples * inner, channels, 1};
  }
  return Refuse(what, tensor, "its memory must be row-major in (N, C, S...), contiguous, or in ",
                "(N, S..., C), channels last");
}

absl::StatusOr<Grid> TokenGridOf(std::string_view what, const ConstTensor& tensor, int64_t channels,
                                 Memory memory) {
  const size_t rank = tensor.shape.size();
  if (absl::Status sound = CheckSound(what, tensor); !sound.ok()) return sound;
  if (absl::Status host = CheckHost(what, tensor, memory); !host.ok()) return host;
  if (rank != 2 && rank != 3) return Refuse(what, tensor, "expected (T, B, C) or (B, C)");
  if (tensor.shape[rank - 1] != channels) {
    return Refuse(what, tensor, "it has ", tensor.shape[rank - 1], " channels, this layer has ",
                  channels);
  }
  const int64_t tokens = Product(tensor, 0, rank - 1);
  if (tokens > 0 && !HasStrides(tensor, ContiguousStrides(tensor.shape))) {
    return Refuse(what, tensor, "its memory must be row-major, contiguous");
  }
  return Grid{tokens, channels, 1};
}

absl::Status CheckLike(std::string_view what, const ConstTensor& tensor, const ConstTensor& x,
                       const Grid& grid, Memory memory) {
  if (absl::Status sound = CheckSound(what, tensor); !sound.ok()) return sound;
  if (absl::Status host = CheckHost(what, tensor, memory); !host.ok()) return host;
  if (tensor.dtype != x.dtype || tensor.shape != x.shape) {
    return Refuse(what, tensor, "x is ", Describe(x), "; dtype and shape must be equal");
  }
  // Strides are compared where they mean something.
  for (size_t i = 0; grid.positions() > 0 && i < x.shape.size(); ++i) {
    if (x.shape[i] > 1 && tensor.strides[i] != x.strides[i]) {
      return Refuse(what, tensor, "x is ", Describe(x), "; the order in memory must be equal");
    }
  }
  return absl::OkStatus();
}

Precision PrecisionOf(DType dtype) {
  return dtype == DType::kF64 ? Precision::kF64 : Precision::kF32;
}

}  // namespace syncnorm::norms
