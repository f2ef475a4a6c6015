// sum dy, and sum dy (x - center) as sum dy (x - hi) - lo * sum dy: x - hi is exact near the
// center.
#include "kernels/cuda/reduce.cuh"

namespace syncnorm::kernels::cuda {
namespace {

struct GradSumsOp {
  static constexpr int kInputs = 2;
  static constexpr int kRows = 2;
  static constexpr int kRowsOfHalves = 2;
  static constexpr int kBlocks = 2;
  static constexpr bool kWalksGroups = false;

  template <class W, int kColumns>
  struct Thread : SumsAccumulator<W, kColumns, 2> {
    __device__ explicit Thread(const GradSumsOp& op) : center(op.center) {}
    __device__ void Prepare(int k, int64_t c) { hi[k] = Split<W>(center[c]).hi; }
    template <int kRows, class X, class Dy, class R>
    __device__ void Add(const X& x, const Dy& dy, const R&, const bool (&ok)[kRows]) {
      this->AddTerms(
          [&](int s, int u, int k) { return s == 0 ? dy(u, k) : dy(u, k) * (x(u, k) - hi[k]); },
          ok);
    }

    const double* center;
    W hi[kColumns] = {};
  };

  __device__ void Store(int64_t c, const double (&values)[3]) const {
    sum_dy[c] = values[1];
    const double lo = wide ? 0 : Split<float>(center[c]).lo;
    sum_dy_xc[c] = values[2] - lo * values[1];
  }

  uint64_t* count;
  const double* center;
  double* sum_dy;
  double* sum_dy_xc;
  bool wide;  // computed in double, where lo is 0
};

}  // namespace

cudaError_t GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid,
                     const double* center, uint64_t* count, double* sum_dy, double* sum_dy_xc,
                     const Launch& on) {
  return LaunchReduce(x, dy.data, valid,
                      GradSumsOp{count, center, sum_dy, sum_dy_xc, x.dtype == DType::kF64}, on);
}

}  // namespace syncnorm::kernels::cuda
