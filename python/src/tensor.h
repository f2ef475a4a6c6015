// View: a tensor of the caller's, as address, dtype, shape and strides (in elements).  Nothing here
// knows of torch: one binary serves every version of it, and any library whose tensors have these.
//
// Thread-safety: plain values; the memory is the caller's to keep alive during a call.
#pragma once

#include <pybind11/pybind11.h>
#include <syncnorm/tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace syncnorm::python {

struct View {
  uintptr_t address = 0;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;

  Tensor tensor() const { return {reinterpret_cast<void*>(address), dtype, shape, strides}; }
};

// Reads all elements of a contiguous view; `what` names it in the error if their number is not that
// of `values`.  A null view reads nothing.
void Read(const std::optional<View>& view, const char* what, std::vector<double>* values);
// Writes `values`, rounded to the view's dtype.  As Read.
void Write(const std::vector<double>& values, const char* what, const std::optional<View>& view);

void BindTensor(pybind11::module_* module);

}  // namespace syncnorm::python
