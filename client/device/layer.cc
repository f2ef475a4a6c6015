#include "client/device/layer.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/device/cuda_status.h"
#include "client/norms/errors.h"

namespace syncnorm {
namespace device {
namespace {

uint64_t Take(uint64_t* note) {
  return std::atomic_ref<uint64_t>(*note).exchange(0, std::memory_order_acq_rel);
}

}  // namespace
}  // namespace device

absl::Status CheckDevice(int device) {
  int devices = 0;
  if (cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess) {
    cudaGetLastError();
    return device::CudaStatus(error, "looking for devices");
  }
  if (device < 0 || device >= devices) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is ", device, "; this process has devices 0 to ", devices - 1));
  }
  return absl::OkStatus();
}

namespace device {

absl::StatusOr<std::unique_ptr<DeviceLayer>> DeviceLayer::Make(std::string name, int device,
                                                               Lane* lane) {
  std::unique_ptr<DeviceLayer> layer(new DeviceLayer(std::move(name), device, lane));
  if (absl::Status forked = CheckNotForked(); !forked.ok()) return forked;
  if (absl::Status there = CheckDevice(device); !there.ok()) return layer->Named(there);
  const DeviceScope scope(device);
  if (cudaError_t error =
          cudaDeviceGetAttribute(&layer->multiprocessors_, cudaDevAttrMultiProcessorCount, device);
      error != cudaSuccess) {
    return layer->Named(error, "asking for the number of multiprocessors");
  }
  absl::StatusOr<PinnedBuffer> notes = PinnedBuffer::Make(sizeof(Notes));
  if (!notes.ok()) return layer->Named(notes.status());
  layer->notes_ = *std::move(notes);
  const auto pool = [&](Lane::Purpose purpose) {
    return lane != nullptr ? lane->pool(device, purpose) : std::make_shared<BlockPool>(device);
  };
  layer->kept_ = pool(Lane::Purpose::kKept);
  layer->plain_ = pool(Lane::Purpose::kPlain);
  layer->scratch_ = pool(Lane::Purpose::kScratch);
  return layer;
}

absl::Status DeviceLayer::TakeFailure() {
  if (lane_ != nullptr) {
    if (absl::Status failed = lane_->TakeFailure(&name_); !failed.ok()) return failed;
  }
  if (const uint64_t bad = Take(&notes()->bad); bad != 0) {
    return norms::Invalid(name_, "the mask of an earlier call had another value than 0 and 1 at ",
                          "position ", bad - 1);
  }
  if (Take(&notes()->missed) != 0) {
    return Named(absl::FailedPreconditionError(
        "a recomputed forward had other inputs than the training forwards that are kept"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Call> DeviceLayer::Begin(cudaStream_t stream, bool synchronises) {
  if (absl::Status failed = TakeFailure(); !failed.ok()) return failed;
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  if (cudaError_t error = cudaStreamIsCapturing(stream, &capture); error != cudaSuccess) {
    return Named(error, "looking at the stream");
  }
  Call call{stream, capture != cudaStreamCaptureStatusNone, {stream, multiprocessors_, nullptr}};
  if (call.capturing && synchronises) {
    return Named(absl::FailedPreconditionError(
        "a call that synchronises cannot be captured into a CUDA graph: a graph repeats its "
        "operations, but every round is its own; capture in eval mode or on the local path"));
  }
  return call;
}

absl::StatusOr<std::shared_ptr<Block>> DeviceLayer::Kept(size_t bytes, const Call& call) {
  auto block = kept_->Acquire(bytes, call.stream, call.capturing);
  if (!block.ok()) return Named(block.status());
  return block;
}

absl::StatusOr<std::shared_ptr<Block>> DeviceLayer::Plain(size_t bytes, const Call& call) {
  auto block = plain_->Acquire(bytes, call.stream, call.capturing);
  if (!block.ok()) return Named(block.status());
  return block;
}

absl::StatusOr<std::shared_ptr<Block>> DeviceLayer::Scratch(const kernels::Grid& grid,
                                                            int64_t groups, DType dtype,
                                                            Call* call) {
  const size_t bytes = kernels::cuda::ScratchBytes(grid, groups, dtype, multiprocessors_);
  if (bytes == 0) return std::shared_ptr<Block>();
  auto block = scratch_->Acquire(bytes, call->stream, call->capturing);
  if (!block.ok()) return Named(block.status());
  call->on.scratch = (*block)->data();
  return block;
}

absl::Status DeviceLayer::Used(const std::shared_ptr<Block>& block, const Call& call) const {
  return block == nullptr ? absl::OkStatus() : Named(block->Used(call.stream, call.capturing));
}

absl::Status DeviceLayer::Named(const absl::Status& status) const {
  return status.ok() ? status : norms::At(name_, status);
}

absl::Status DeviceLayer::Named(cudaError_t error, const char* what) const {
  return Named(CudaStatus(error, what));
}

absl::Status DeviceLayer::FirstError(const std::vector<absl::Status>& statuses) const {
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return Named(status);
  }
  return absl::OkStatus();
}

}  // namespace device
}  // namespace syncnorm
