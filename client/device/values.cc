#include "client/device/values.h"

#include <cstddef>
#include <string>

#include "client/device/cuda_status.h"
#include "kernels/element.h"

namespace syncnorm::device {
namespace {

absl::Status Copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                  cudaStream_t stream) {
  if (cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, stream); error != cudaSuccess) {
    return CudaStatus(error, "copying a layer's values");
  }
  return CudaStatus(cudaStreamSynchronize(stream), "waiting for a layer's values");
}

}  // namespace

absl::Status Read(const DeviceValues& from, int64_t size, cudaStream_t stream,
                  std::vector<double>* to) {
  std::string bytes(static_cast<size_t>(size) * SizeOf(from.dtype), '\0');
  if (absl::Status s = Copy(bytes.data(), from.data, bytes.size(), cudaMemcpyDeviceToHost, stream);
      !s.ok()) {
    return s;
  }
  to->resize(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) (*to)[i] = kernels::ReadElement(from.dtype, bytes.data(), i);
  return absl::OkStatus();
}

absl::Status Read(const int64_t* from, cudaStream_t stream, int64_t* to) {
  return Copy(to, from, sizeof(*to), cudaMemcpyDeviceToHost, stream);
}

absl::Status Write(const std::vector<double>& from, cudaStream_t stream, const DeviceValues& to) {
  std::string bytes(from.size() * SizeOf(to.dtype), '\0');
  for (size_t i = 0; i < from.size(); ++i) {
    kernels::WriteElement(to.dtype, bytes.data(), static_cast<int64_t>(i), from[i]);
  }
  return Copy(to.data, bytes.data(), bytes.size(), cudaMemcpyHostToDevice, stream);
}

absl::Status Write(int64_t from, cudaStream_t stream, int64_t* to) {
  return Copy(to, &from, sizeof(from), cudaMemcpyHostToDevice, stream);
}

}  // namespace syncnorm::device
