// Elements of any dtype on the device, 16 bytes of them at a time.
//
//   WithElement     calls a function with the element type of a dtype
//   Wide<T>         what an element of type T is computed in: double for f64, else float
//   Lanes<T>        the elements of one 128-bit access, their number kLanes<T>
//   LoadLanes, StoreLanes
//                   one such access where all of it lies in the tensor and `aligned` says that it
//                   is aligned; element by element otherwise, and never outside of the tensor
//
// Callers may rely on: stores round to nearest even, once; reading loses nothing.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/kernels.h"

namespace syncnorm::kernels::cuda {

// Half precision as its bits: arithmetic is always done on Wide.
struct F16 {
  uint16_t bits;
};
struct BF16 {
  uint16_t bits;
};

template <class T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

__device__ inline float Widen(float x) { return x; }
__device__ inline double Widen(double x) { return x; }
__device__ inline float Widen(F16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ inline float Widen(BF16 x) { return __uint_as_float(uint32_t{x.bits} << 16); }

__device__ inline void Narrow(float value, float* to) { *to = value; }
__device__ inline void Narrow(double value, double* to) { *to = value; }
__device__ inline void Narrow(float value, F16* to) {
  to->bits = __half_as_ushort(__float2half_rn(value));
}
__device__ inline void Narrow(float value, BF16* to) {
  to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

template <class T>
struct alignas(16) Lanes {
  T at[kLanes<T>];
};

// Elements [at, at + kLanes) of the n at `data`; those that lie outside read as 0.
template <class T>
__device__ inline Lanes<T> LoadLanes(const T* data, int64_t at, int64_t n, bool aligned) {
  Lanes<T> lanes;
  if (aligned && at >= 0 && at + kLanes<T> <= n) {
    *reinterpret_cast<uint4*>(&lanes) = *reinterpret_cast<const uint4*>(data + at);
    return lanes;
  }
#pragma unroll
  for (int k = 0; k < kLanes<T>; ++k) {
    lanes.at[k] = at + k >= 0 && at + k < n ? data[at + k] : T{};
  }
  return lanes;
}

// Stores the lanes that lie in [first, first + count) of these: all of them, mostly.
template <class T>
__device__ inline void StoreLanes(const Lanes<T>& lanes, T* data, int64_t at, int64_t n,
                                  bool aligned) {
  if (aligned && at >= 0 && at + kLanes<T> <= n) {
    // Said in one word: the compiler makes four stores of 4 bytes out of an assignment.
    __stwb(reinterpret_cast<uint4*>(data + at), *reinterpret_cast<const uint4*>(&lanes));
    return;
  }
#pragma unroll
  for (int k = 0; k < kLanes<T>; ++k) {
    if (at + k >= 0 && at + k < n) data[at + k] = lanes.at[k];
  }
}

// hi + lo = value: x - hi is exact for an x near value, and what is missing is lo.
template <class W>
struct Split {
  __device__ explicit Split(double value)
      : hi(static_cast<W>(value)), lo(value - static_cast<double>(hi)) {}
  W hi;
  double lo;
};

// How many elements `data` lies behind the last address that is aligned to 16 bytes.
template <class T>
int HeadOf(const void* data) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(data) % 16 / sizeof(T));
}

// f(T{}) with the element type of dtype.
template <class F>
cudaError_t WithElement(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kF32:
      return f(float{});
    case DType::kF64:
      return f(double{});
    case DType::kF16:
      return f(F16{});
    case DType::kBF16:
      return f(BF16{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace syncnorm::kernels::cuda
