#include "client/norms/backend.h"

namespace syncnorm::norms {
namespace {

thread_local const kernels::Kernels* innermost = nullptr;

}  // namespace

const kernels::Kernels& Backend() { return innermost != nullptr ? *innermost : kernels::Cpu(); }

BackendScope::BackendScope(const kernels::Kernels* kernels) : outer_(innermost) {
  innermost = kernels;
}

BackendScope::~BackendScope() { innermost = outer_; }

}  // namespace syncnorm::norms
