// sum dy, sum dy * xs and sum xs^2, xs = x * r of the token and group.
#include "kernels/cuda/reduce.cuh"

namespace syncnorm::kernels::cuda {
namespace {

struct PowerGradSumsOp {
  static constexpr int kInputs = 2;
  static constexpr int kRows = 4;
  static constexpr int kRowsOfHalves = 4;
  static constexpr int kBlocks = 1;
  static constexpr bool kWalksGroups = true;

  template <class W, int kColumns>
  struct Thread : SumsAccumulator<W, kColumns, 3> {
    __device__ explicit Thread(const PowerGradSumsOp&) {}
    __device__ void Prepare(int, int64_t) {}
    template <int kRows, class X, class Dy, class R>
    __device__ void Add(const X& x, const Dy& dy, const R& r, const bool (&ok)[kRows]) {
      this->AddTerms(
          [&](int s, int u, int k) {
            const W xs = x(u, k) * r(u, k);
            return s == 0 ? dy(u, k) : (s == 1 ? dy(u, k) : xs) * xs;
          },
          ok);
    }
  };

  __device__ void Store(int64_t c, const double (&values)[4]) const {
    sum_dy[c] = values[1];
    sum_dy_xs[c] = values[2];
    sum_xs2[c] = values[3];
  }

  uint64_t* count;
  double* sum_dy;
  double* sum_dy_xs;
  double* sum_xs2;
};

}  // namespace

cudaError_t PowerGradSums(const ConstSlab& x, const void* r, int64_t groups, const ConstSlab& dy,
                          const uint8_t* valid, uint64_t* count, double* sum_dy, double* sum_dy_xs,
                          double* sum_xs2, const Launch& on) {
  return WithElement(x.dtype, [&](auto element) {
    return LaunchColumns<decltype(element)>(x, dy.data, valid, r, groups,
                                            PowerGradSumsOp{count, sum_dy, sum_dy_xs, sum_xs2}, on);
  });
}

}  // namespace syncnorm::kernels::cuda
