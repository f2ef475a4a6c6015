// One element of a tensor of any dtype, as a double: for code that is to be clear rather than fast
// (scalar/, and whoever checks a kernel).
//
// Writing rounds to nearest even, once.
#pragma once

#include <syncnorm/tensor.h>

#include <cstdint>

#include "kernels/half.h"

namespace syncnorm::kernels {

inline double ReadElement(DType dtype, const void* data, int64_t at) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(data)[at];
    case DType::kF64:
      return static_cast<const double*>(data)[at];
    case DType::kF16:
      return F32FromF16(static_cast<const uint16_t*>(data)[at]);
    case DType::kBF16:
      return F32FromBF16(static_cast<const uint16_t*>(data)[at]);
  }
  return 0;
}

inline void WriteElement(DType dtype, void* data, int64_t at, double value) {
  switch (dtype) {
    case DType::kF32:
      static_cast<float*>(data)[at] = static_cast<float>(value);
      return;
    case DType::kF64:
      static_cast<double*>(data)[at] = value;
      return;
    case DType::kF16:
      static_cast<uint16_t*>(data)[at] = F16FromDouble(value);
      return;
    case DType::kBF16:
      static_cast<uint16_t*>(data)[at] = BF16FromDouble(value);
      return;
  }
}

}  // namespace syncnorm::kernels
