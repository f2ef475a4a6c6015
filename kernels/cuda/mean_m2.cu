// Means and sums of squared deviations: accumulate.cuh and merge.cuh say how.
#include "kernels/cuda/reduce.cuh"

namespace syncnorm::kernels::cuda {
namespace {

struct MeanM2Op {
  static constexpr int kInputs = 1;
  static constexpr bool kWalksGroups = false;

  template <class W, int kColumns>
  struct Thread : MomentsAccumulator<W, kColumns> {
    __device__ explicit Thread(const MeanM2Op&) {}
    __device__ void Prepare(int, int64_t) {}
    template <int kRows>
    __device__ void Add(const W (&x)[kRows][kColumns], const W (&)[kRows][kColumns],
                        const W (&)[kRows][kColumns], const bool (&ok)[kRows]) {
      MomentsAccumulator<W, kColumns>::Add(x, ok);
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
