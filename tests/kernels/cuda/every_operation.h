// Every operation once, on one grid: for tests that compare whole runs with each other.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/support.h"

namespace syncnorm::kernels {

struct OperationCase {
  DType dtype = DType::kF32;
  Grid grid;
  Mask mask = Mask::kNone;
  int64_t groups = 1;  // PowerNorm's, where grid.inner == 1
  // How far the tensors lie behind 64 aligned bytes, in elements.
  size_t x_skew = 0, dy_skew = 0, out_skew = 0;
};

std::string Describe(const OperationCase& c);

// Every number that came out, by operation and result.  The data depend on the dtype, grid and mask
// only; sums of them do not cancel.
using Results = std::map<std::string, std::vector<double>>;
Results RunEveryOperation(const Kernels& kernels, const OperationCase& c);

// Grids that take every way through the CUDA kernels: runs and columns; whole, partial and single
// windows; teams of a few threads, whole blocks, split sums; one channel, one position.
extern const std::vector<OperationCase> kEveryWay;

}  // namespace syncnorm::kernels
