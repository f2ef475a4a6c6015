// sum xs^2, xs = x * r of the token and group.
#include "kernels/cuda/reduce.cuh"

namespace syncnorm::kernels::cuda {
namespace {

struct PowerSumsOp {
  static constexpr int kInputs = 1;
  static constexpr int kRows = 4;
  static constexpr int kRowsOfHalves = 2;
  static constexpr int kBlocks = 2;
  static constexpr bool kWalksGroups = true;

  template <class W, int kColumns>
  struct Thread : SumsAccumulator<W, kColumns, 1> {
    __device__ explicit Thread(const PowerSumsOp&) {}
    __device__ void Prepare(int, int64_t) {}
    template <int kRows, class X, class Dy, class R>
    __device__ void Add(const X& x, const Dy&, const R& r, const bool (&ok)[kRows]) {
      this->AddTerms(
          [&](int, int u, int k) {
            const W xs = x(u, k) * r(u, k);
            return xs * xs;
          },
          ok);
    }
  };

  __device__ void Store(int64_t c, const double (&values)[2]) const { sum_x2[c] = values[1]; }

  uint64_t* count;
  double* sum_x2;
};

}  // namespace

cudaError_t PowerSums(const ConstSlab& x, const void* r, int64_t groups, const uint8_t* valid,
                      uint64_t* count, double* sum_x2, const Launch& on) {
  return WithElement(x.dtype, [&](auto element) {
    return LaunchColumns<decltype(element)>(x, nullptr, valid, r, groups,
                                            PowerSumsOp{count, sum_x2}, on);
  });
}

}  // namespace syncnorm::kernels::cuda
