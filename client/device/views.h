// Views that the layers on a device share: of blocks, and of what callers give.
//
// Thread-safety: pure functions.
#pragma once

#include <syncnorm/device.h>
#include <syncnorm/tensor.h>

#include <cstdint>
#include <memory>

#include "client/device/block_pool.h"
#include "kernels/cuda/fold.h"

namespace syncnorm::device {

// What a block of DeviceLayer::Kept begins with.
template <typename Kept>
Kept* KeptIn(const Block& block) {
  return reinterpret_cast<Kept*>(block.data());
}

// The bytes of a mask, in the kernels' form; null: none.
inline const uint8_t* DataOf(const std::shared_ptr<Block>& valid) {
  return valid == nullptr ? nullptr : reinterpret_cast<const uint8_t*>(valid->data());
}

inline kernels::cuda::Values ValuesOf(const DeviceValues& values) {
  return {values.data, values.dtype};
}

inline int64_t BytesOf(const ConstTensor& tensor) {
  return tensor.elements() * static_cast<int64_t>(SizeOf(tensor.dtype));
}

}  // namespace syncnorm::device
