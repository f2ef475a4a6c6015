// DeviceReducer: a Lane, as a Reducer.
#include <syncnorm/device.h>

#include <utility>

#include "client/device/cuda_status.h"
#include "client/device/lane.h"
#include "client/device/pointers.h"
#include "client/device/stream_wait.h"

namespace syncnorm {

absl::StatusOr<std::unique_ptr<DeviceReducer>> DeviceReducer::Create(Reducer* group,
                                                                     DeviceReducerOptions options) {
  if (group == nullptr) {
    return absl::InvalidArgumentError(
        "a DeviceReducer needs a group; layers without one are created without a DeviceReducer");
  }
  int devices = 0;
  if (cudaError_t error = cudaGetDeviceCount(&devices); error != cudaSuccess) {
    cudaGetLastError();
    return device::CudaStatus(error, "looking for devices");
  }
  device::RefuseDeviceMemoryOnTheHost();
  absl::StatusOr<device::StreamWait> wait = device::StreamWait::Make(options.waiting);
  if (!wait.ok()) return wait.status();
  return std::unique_ptr<DeviceReducer>(
      new DeviceReducer(std::make_unique<Lane>(group, *std::move(wait))));
}

DeviceReducer::DeviceReducer(std::unique_ptr<Lane> lane) : lane_(std::move(lane)) {}

DeviceReducer::~DeviceReducer() {
  // The threads and CUDA exist in the parent only: leak.
  if (lane_->fork_guard().Forked()) static_cast<void>(lane_.release());
}

absl::Status DeviceReducer::Check() {
  if (absl::Status s = lane_->fork_guard().Check(); !s.ok()) return s;
  return lane_->TakeFailure(nullptr);
}

bool DeviceReducer::WaitForResults(absl::Duration timeout) const {
  // In a forked child there is nobody to wait for.
  return lane_->fork_guard().Forked() || lane_->AwaitResults(timeout);
}

DeviceCounters DeviceReducer::counters() const { return lane_->counters(); }
StreamWaiting DeviceReducer::waiting() const { return lane_->wait().waiting(); }

int DeviceReducer::world_size() const { return lane_->group()->world_size(); }
bool DeviceReducer::connected() const { return lane_->group()->connected(); }

MomentsFuture DeviceReducer::Reduce(const ReduceKey& key, const Moments& moments) {
  // The group says so itself, at once.
  if (lane_->fork_guard().Forked()) return lane_->group()->Reduce(key, moments);
  return lane_->Reduce(key, moments);
}

absl::StatusOr<Moments> DeviceReducer::ReduceNow(const ReduceKey& key, const Moments& moments) {
  return Reduce(key, moments).Wait();
}

absl::Status DeviceReducer::AddLayer(const std::string& name, LayerState* state) {
  return lane_->group()->AddLayer(name, state);
}

void DeviceReducer::RemoveLayer(const std::string& name) { lane_->group()->RemoveLayer(name); }

}  // namespace syncnorm
