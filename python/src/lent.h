// What _core lends to _cuda.  Each of the two modules has a client of its own inside, with all
// symbols hidden, so that CUDA is loaded only where it is used; but there is one group, and one way
// errors become Python's.  They cross as capsules: a Reducer by its virtual functions, and the
// function that raises by its address.  pybind11 shares View and DType by itself.
//
// Thread-safety: callers hold the GIL.
#pragma once

#include <pybind11/pybind11.h>
#include <syncnorm/reducer.h>

#include <memory>
#include <utility>

#include "absl/status/status.h"

namespace syncnorm::python {

inline constexpr const char* kReducerCapsule = "syncnorm.Reducer";
inline constexpr const char* kErrorsCapsule = "syncnorm.RaiseIfError";

// A share of the reducer, as a capsule.
inline pybind11::capsule Lend(std::shared_ptr<Reducer> reducer) {
  auto* lent = new std::shared_ptr<Reducer>(std::move(reducer));
  return pybind11::capsule(lent, kReducerCapsule, [](PyObject* capsule) {
    delete static_cast<std::shared_ptr<Reducer>*>(PyCapsule_GetPointer(capsule, kReducerCapsule));
  });
}

// pybind11::error_already_set if it is another capsule.
inline std::shared_ptr<Reducer> Borrow(const pybind11::capsule& lent) {
  void* pointer = PyCapsule_GetPointer(lent.ptr(), kReducerCapsule);
  if (pointer == nullptr) throw pybind11::error_already_set();
  return *static_cast<std::shared_ptr<Reducer>*>(pointer);
}

// Throws unless OK: errors.h.
using RaiseFunction = void (*)(const absl::Status&);

inline void LendErrors(pybind11::module_* module, RaiseFunction raise) {
  module->attr("_raise_if_error") =
      pybind11::capsule(reinterpret_cast<void*>(raise), kErrorsCapsule);
}

inline RaiseFunction BorrowErrors() {
  const pybind11::object lent = pybind11::module_::import("syncnorm._core").attr("_raise_if_error");
  void* pointer = PyCapsule_GetPointer(lent.ptr(), kErrorsCapsule);
  if (pointer == nullptr) throw pybind11::error_already_set();
  return reinterpret_cast<RaiseFunction>(pointer);
}

}  // namespace syncnorm::python
