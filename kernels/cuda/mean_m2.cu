// Means and sums of squared deviations: accumulate.cuh and merge.cuh say how.
#include "kernels/cuda/reduce.cuh"

namespace syncnorm::kernels::cuda {
namespace {

struct MeanM2Op {
  static constexpr int kInputs = 1;
  static constexpr int kRows = 4;
  static constexpr int kRowsOfHalves = 3;
  static constexpr int kBlocks = 2;
  static constexpr bool kWalksGroups = false;

  template <class W, int kColumns>
  struct Thread : MomentsAccumulator<W, kColumns> {
    __device__ explicit Thread(const MeanM2Op&) {}
    __device__ void Prepare(int, int64_t) {}
    template <int kRows, class X, class Dy, class R>
    __device__ void Add(const X& x, const Dy&, const R&, const bool (&ok)[kRows]) {
      this->AddValues(x, ok);
    }
  };

  __device__ void Store(int64_t c, const double (&values)[3]) const {
    mean[c] = values[1];
    m2[c] = values[2];
  }

  uint64_t* count;
  double* mean;
  double* m2;
};

}  // namespace

cudaError_t MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean,
                   double* m2, const Launch& on) {
  return LaunchReduce(x, nullptr, valid, MeanM2Op{count, mean, m2}, on);
}

}  // namespace syncnorm::kernels::cuda
