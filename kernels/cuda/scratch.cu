#include "kernels/cuda/reduce.cuh"

namespace syncnorm::kernels::cuda {

size_t ScratchBytes(const Grid& grid, int64_t, DType dtype, int multiprocessors) {
  const int lanes = dtype == DType::kF32 ? 4 : dtype == DType::kF64 ? 2 : 8;
  // PowerNorm walks one channel as a column, batch norm as a run.
  size_t most = 0;
  if (grid.inner == 1) {
    most = SplitBytes(grid.channels, ColumnsLayout(grid, lanes, multiprocessors).splits);
  }
  const Grid runs = AsRuns(grid);
  if (grid.channels == 1 || grid.inner != 1) {
    most =
        std::max(most, SplitBytes(grid.channels, RunsLayout(runs, lanes, multiprocessors).splits));
  }
  return most;
}

}  // namespace syncnorm::kernels::cuda
