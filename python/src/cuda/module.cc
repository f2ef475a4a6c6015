// syncnorm._cuda: the layers on CUDA streams as Python sees them; there where the package was built
// with CUDA, and loaded with the first CUDA tensor.
#include <pybind11/pybind11.h>

#include "python/src/cuda/device_group.h"
#include "python/src/cuda/device_norm.h"
#include "python/src/lent.h"

namespace syncnorm::python {
namespace {

RaiseFunction raise = nullptr;  // set before anything is bound

}  // namespace

void RaiseDeviceError(const absl::Status& status) {
  if (!status.ok()) raise(status);
}

}  // namespace syncnorm::python

PYBIND11_MODULE(_cuda, module) {
  module.doc() = "The layers on CUDA streams; use syncnorm.torch.";
  syncnorm::python::raise = syncnorm::python::BorrowErrors();
  syncnorm::python::BindDeviceGroup(&module);
  syncnorm::python::BindDeviceBatchNorm(&module);
  syncnorm::python::BindDevicePowerNorm(&module);
}
