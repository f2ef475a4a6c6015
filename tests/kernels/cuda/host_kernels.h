// The CUDA kernels behind the interface of the CPU's, on host memory: every call copies its
// operands to the device, runs one operation and copies the results back.
//
// What it adds to a test of the CPU's kernels:
//   * An operand lies on the device as it lies on the host, to 64 bytes: aligned, it is an
//   allocation
//     of its own, whose bounds a checker holds; otherwise NaN stands around it, which must stay as
//     it is.
//   * r, which is double here, is narrowed to what the kernels take.
//   * The scratch is one for all calls, whatever their grids.
//
// Failures of CUDA fail the test.  Thread-safety: one call at a time.
#pragma once

#include <memory>

#include "kernels/cuda/cuda.h"
#include "kernels/kernels.h"

namespace syncnorm::kernels::cuda {

// As if the device had that many multiprocessors.
std::unique_ptr<Kernels> OnHostMemory(int multiprocessors);

}  // namespace syncnorm::kernels::cuda
