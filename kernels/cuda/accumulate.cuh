// Accumulators: what one thread keeps of kColumns channels while it reads.
//
// Batches of kRows values a channel go into sums of type W, float for all but f64; after kFoldEvery
// of them, at the end of a *run*, these go into double.  Rounding inside of a run costs at most
// kFoldEvery * 2^-24 = 2e-6 of a sum of positive terms, and a tenth of that where errors are
// random; a fold, some ten operations in double, which many GPUs have few units for, is paid once
// in kFoldEvery * kRows values.
//
// An accumulator has
//   kValues           doubles per channel of a finished part, the count first
//   Merge             how parts are merged (merge.cuh)
//   AddValues, AddTerms   one batch; ok[row] says whether a row counts
//   Fold()            ends a run
//   Get(k, v)         value v of column k, after the last Fold()
#pragma once

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/merge.cuh"

namespace syncnorm::kernels::cuda {

constexpr int kFoldEvery = 32;

// Mean and sum of squared deviations.  A run's values are taken relative to its first one, so that
// the mean's size costs nothing, and a batch's deviations are taken from the batch's own mean
// before it is merged (Chan's update with a batch for one side): unlike with a sum of squares,
// nothing cancels, wherever the first value lies.
template <class W, int kColumns>
class MomentsAccumulator {
 public:
  static constexpr int kValues = 3;
  using Merge = MergeMoments;

  // x(row, column)
  template <int kRows, class X>
  __device__ void AddValues(const X& x, const bool (&ok)[kRows]) {
    int count = 0;
#pragma unroll
    for (int u = 0; u < kRows; ++u) count += ok[u];
    if (count == 0) return;
    if (n_ == 0) {
#pragma unroll
      for (int u = kRows - 1; u >= 0; --u) {
#pragma unroll
        for (int k = 0; k < kColumns; ++k) origin_[k] = ok[u] ? x(u, k) : origin_[k];
      }
    }
    const W inverse = W{1} / static_cast<W>(count);
    const W share = static_cast<W>(count) / static_cast<W>(n_ + count);
    const W weight = static_cast<W>(n_) * share;
    n_ += count;
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      W deviation[kRows];
      W sum = 0;
#pragma unroll
      for (int u = 0; u < kRows; ++u) {
        deviation[u] = ok[u] ? x(u, k) - origin_[k] : W{0};
        sum += deviation[u];
      }
      const W mean = sum * inverse;
      W m2 = 0;
#pragma unroll
      for (int u = 0; u < kRows; ++u) {
        const W rest = ok[u] ? deviation[u] - mean : W{0};
        m2 = fma(rest, rest, m2);
      }
      const W delta = mean - mean_[k];
      mean_[k] = fma(delta, share, mean_[k]);
      m2_[k] += fma(delta * delta, weight, m2);
    }
  }

  __device__ void Fold() {
    if (n_ == 0) return;
    const double n = n_;
    const double share = total_n_ == 0 ? 1 : n / (total_n_ + n);
    const double weight = total_n_ * share;
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const double mean = static_cast<double>(origin_[k]) + static_cast<double>(mean_[k]);
      const double delta = mean - total_mean_[k];
      // The first run is taken as it is: delta^2 may overflow.
      total_mean_[k] = weight == 0 ? mean : total_mean_[k] + delta * share;
      total_m2_[k] = weight == 0 ? static_cast<double>(m2_[k])
                                 : total_m2_[k] + m2_[k] + delta * delta * weight;
      mean_[k] = m2_[k] = 0;
    }
    total_n_ += n;
    n_ = 0;
  }

  __device__ double Get(int k, int v) const {
    return v == 0 ? total_n_ : v == 1 ? total_mean_[k] : total_m2_[k];
  }

 private:
  int n_ = 0;
  double total_n_ = 0;
  W origin_[kColumns] = {}, mean_[kColumns] = {}, m2_[kColumns] = {};
  double total_mean_[kColumns] = {}, total_m2_[kColumns] = {};
};

// A count and kSums sums.
template <class W, int kColumns, int kSums>
class SumsAccumulator {
 public:
  static constexpr int kValues = 1 + kSums;
  using Merge = MergeSums;

  // terms(sum, row, column)
  template <int kRows, class Terms>
  __device__ void AddTerms(const Terms& terms, const bool (&ok)[kRows]) {
#pragma unroll
    for (int u = 0; u < kRows; ++u) n_ += ok[u];
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
#pragma unroll
      for (int s = 0; s < kSums; ++s) {
        W sum = 0;
#pragma unroll
        for (int u = 0; u < kRows; ++u) sum += ok[u] ? terms(s, u, k) : W{0};
        run_[s][k] += sum;
      }
    }
  }

  __device__ void Fold() {
    total_n_ += n_;
    n_ = 0;
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
#pragma unroll
      for (int s = 0; s < kSums; ++s) {
        total_[s][k] += run_[s][k];
        run_[s][k] = 0;
      }
    }
  }

  __device__ double Get(int k, int v) const { return v == 0 ? total_n_ : total_[v - 1][k]; }

 private:
  int n_ = 0;
  double total_n_ = 0;
  W run_[kSums][kColumns] = {};
  double total_[kSums][kColumns] = {};
};

}  // namespace syncnorm::kernels::cuda
