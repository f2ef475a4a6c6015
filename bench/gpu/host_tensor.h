// A tensor's bytes on the host, filled alike wherever it is asked for.
//
// Thread-safety: pure functions.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/element.h"
#include "kernels/kernels.h"

namespace syncnorm::bench::gpu {

// About normal: a sum of four uniform numbers, of deviation 1, from a hash of seed and place
// (splitmix64): tensors are large, and a library's normal numbers take longer than the kernels.
inline double NormalAt(uint64_t seed, uint64_t at) {
  uint64_t z = (at + 1) * 0x9e3779b97f4a7c15ull + seed * 0xd1b54a32d192ed03ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  double sum = -2;
  for (int part = 0; part < 4; ++part) {
    sum += static_cast<double>((z >> (16 * part)) & 0xffff) / 65536;
  }
  return sum * 1.7320508075688772;  // each has a variance of 1 / 12: the root of 12 / 4
}

inline std::vector<uint8_t> HostTensor(DType dtype, int64_t elements, double mean, double deviation,
                                       uint64_t seed) {
  std::vector<uint8_t> bytes(static_cast<size_t>(elements) * SizeOf(dtype));
  for (int64_t i = 0; i < elements; ++i) {
    kernels::WriteElement(dtype, bytes.data(), i,
                          mean + deviation * NormalAt(seed, static_cast<uint64_t>(i)));
  }
  return bytes;
}

}  // namespace syncnorm::bench::gpu
