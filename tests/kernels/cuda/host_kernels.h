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
//   * The device has, as far as the kernels know, another number of multiprocessors from call to
//   call.
//
// Failures of CUDA fail the test.  Thread-safety: one call at a time.
#pragma once

#include <memory>
#include <vector>

#include "kernels/cuda/cuda.h"
#include "kernels/kernels.h"

namespace syncnorm::kernels::cuda {

// Call i runs as if there were multiprocessors[i % size] of them.
std::unique_ptr<Kernels> OnHostMemory(std::vector<int> multiprocessors);

}  // namespace syncnorm::kernels::cuda
