#include "client/device/pointers.h"

#include <cuda_runtime_api.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "client/device/cuda_status.h"
#include "client/device/views.h"
#include "client/norms/grid.h"
#include "client/norms/host_memory.h"

namespace syncnorm::device {
namespace {

int DeviceOfMemory(const void* data) {
  cudaPointerAttributes attributes = {};
  if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    cudaGetLastError();
    return -1;
  }
  return attributes.type == cudaMemoryTypeDevice ? attributes.device : -1;
}

}  // namespace

absl::Status CheckOnDevice(std::string_view what, const void* data, int64_t bytes, int device) {
  if (bytes == 0) return absl::OkStatus();
  const std::string name(what);
  if (data == nullptr) return absl::InvalidArgumentError(absl::StrCat(name, " is null"));
  cudaPointerAttributes attributes = {};
  if (cudaError_t error = cudaPointerGetAttributes(&attributes, data); error != cudaSuccess) {
    return CudaStatus(error, absl::StrCat("asking where ", name, " is"));
  }
  if (attributes.type == cudaMemoryTypeManaged) return absl::OkStatus();
  if (attributes.type != cudaMemoryTypeDevice) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " is in memory of the host", attributes.type == cudaMemoryTypeHost ? " (pinned)" : "",
        "; this layer needs it on device ", device));
  }
  if (attributes.device != device) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is on device ", attributes.device,
                                                   "; this layer is on device ", device));
  }
  return absl::OkStatus();
}

absl::Status CheckValues(std::string_view what, const DeviceValues& values, int64_t channels,
                         int device, bool optional) {
  if (values.data == nullptr && optional) return absl::OkStatus();
  const size_t size = SizeOf(values.dtype);
  if (size == 0) {
    return absl::InvalidArgumentError(absl::StrCat(std::string(what), " has dtype ",
                                                   static_cast<int>(values.dtype),
                                                   "; it must be one of f32, f64, f16, bf16"));
  }
  if (reinterpret_cast<uintptr_t>(values.data) % size != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(what), " is not aligned to ", size, " bytes"));
  }
  return CheckOnDevice(what, values.data, channels * static_cast<int64_t>(size), device);
}

absl::Status CheckStatistic(std::string_view what, const DeviceValues& values, int64_t channels,
                            int device) {
  if (values.data != nullptr && values.dtype != DType::kF32 && values.dtype != DType::kF64) {
    return absl::InvalidArgumentError(absl::StrCat(std::string(what), " has dtype ",
                                                   std::string(Name(values.dtype)),
                                                   "; it must be f32 or f64"));
  }
  return CheckValues(what, values, channels, device, /*optional=*/false);
}

absl::Status CheckGradients(const DeviceValues& weight, const DeviceValues& bias, int64_t channels,
                            int device) {
  if (absl::Status ok =
          CheckValues("the weight's gradient", weight, channels, device, /*optional=*/true);
      !ok.ok()) {
    return ok;
  }
  return CheckValues("the bias's gradient", bias, channels, device, /*optional=*/true);
}

absl::Status CheckLikeOnDevice(std::string_view what, const ConstTensor& tensor,
                               const ConstTensor& x, const kernels::Grid& grid, int device) {
  if (absl::Status like = norms::CheckLike(what, tensor, x, grid, norms::Memory::kDevice);
      !like.ok()) {
    return like;
  }
  return CheckOnDevice(what, tensor.data, BytesOf(tensor), device);
}

void RefuseDeviceMemoryOnTheHost() { norms::DeviceOfPointer().store(DeviceOfMemory); }

}  // namespace syncnorm::device
