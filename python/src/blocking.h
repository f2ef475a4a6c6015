// Around every call that may wait: without the GIL, and ended by a signal's handler that raises, as
// Ctrl-C's does.
//
//   const absl::Status status = Blocking([&] { return group->Leave(); });
//
// What the handler raised is thrown, whatever the call returned.  Python runs handlers in its main
// thread only; other threads' waits end at their deadlines.
//
// Thread-safety: the caller holds the GIL.
#pragma once

#include <pybind11/pybind11.h>
#include <syncnorm/interrupt.h>

#include <memory>
#include <type_traits>

namespace syncnorm::python {

// Whether a signal's handler has raised; then `raised` has what.
bool SignalRaised(std::unique_ptr<pybind11::error_already_set>* raised);

template <typename Call>
auto Blocking(Call call) {
  std::unique_ptr<pybind11::error_already_set> raised;
  const auto run = [&] {
    const pybind11::gil_scoped_release release;
    const InterruptScope scope([&raised] { return SignalRaised(&raised); });
    return call();
  };
  auto result = run();
  if (raised != nullptr) throw pybind11::error_already_set(std::move(*raised));
  return result;
}

}  // namespace syncnorm::python
