// The kernels that the norms use: the one place that picks them.
//
// Thread-safety: a pure function.
#pragma once

#include "kernels/kernels.h"

namespace syncnorm::norms {

inline const kernels::Kernels& Backend() { return kernels::Cpu(); }

}  // namespace syncnorm::norms
