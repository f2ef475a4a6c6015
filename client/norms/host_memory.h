// A seam for what the norms on the CPU cannot know themselves: whether a pointer is to memory of a
// device.  The device path, where it is linked and used, says so; without it every pointer is
// taken to be of the host.
//
// Thread-safety: thread-safe.
#pragma once

#include <atomic>

namespace syncnorm::norms {

// The device whose memory `data` is; -1: the host can read it.
using DeviceOf = int (*)(const void* data);

inline std::atomic<DeviceOf>& DeviceOfPointer() {
  static std::atomic<DeviceOf> device_of{nullptr};
  return device_of;
}

}  // namespace syncnorm::norms
