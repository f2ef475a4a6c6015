#include "python/src/blocking.h"

namespace syncnorm::python {

bool SignalRaised(std::unique_ptr<pybind11::error_already_set>* raised) {
  if (*raised != nullptr) return true;
  const pybind11::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() == 0) return false;
  *raised = std::make_unique<pybind11::error_already_set>();
  return true;
}

}  // namespace syncnorm::python
