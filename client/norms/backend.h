// The kernels that the norms use: the one place that picks them.
//
// They are the CPU's, unless the calling thread is inside a BackendScope: an adapter for tensors
// that the CPU's kernels cannot read (of another device) brings its own.
//
// Thread-safety: a scope is its thread's; others do not see it.
#pragma once

#include "kernels/kernels.h"

namespace syncnorm::norms {

const kernels::Kernels& Backend();

// `kernels` must outlive it.  Scopes may be nested, the innermost counts.
class BackendScope {
 public:
  explicit BackendScope(const kernels::Kernels* kernels);
  ~BackendScope();
  BackendScope(const BackendScope&) = delete;
  BackendScope& operator=(const BackendScope&) = delete;

 private:
  const kernels::Kernels* const outer_;
};

}  // namespace syncnorm::norms
