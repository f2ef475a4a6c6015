#include "bench/gpu/expected_layer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bench/gpu/host_tensor.h"
#include "bench/gpu/verify.h"

namespace syncnorm::bench::gpu {
namespace {

using kernels::Grid;
using kernels::Scalar;
using kernels::Slab;

constexpr double kEps = 1e-5;      // of both norms and of the group scaling
constexpr double kBias = 0.25;     // layer.cc's
constexpr double kAlphaFwd = 0.9;  // PowerNorm's default

// The whole batch.
struct Batch {
  Batch(const Case& c, int ranks) : dtype(c.dtype), grid(c.grid()) {
    grid.outer *= ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      for (auto [all, part] : {std::pair{&x, InputOf(c, rank)}, {&dy, GradientOf(c, rank)}}) {
        all->insert(all->end(), part.begin(), part.end());
      }
    }
    y.resize(x.size());
    dx.resize(x.size());
  }
  Slab Of(std::vector<uint8_t>* bytes) const { return {bytes->data(), dtype, grid}; }

  DType dtype;
  Grid grid;
  std::vector<uint8_t> x, dy, y, dx;
};

void BatchNormStep(Batch* b) {
  const std::vector<double> zero(static_cast<size_t>(b->grid.channels));
  std::vector<double> mean = zero, m2 = zero, scale = zero, sum_dy = zero, sum_dy_xc = zero;
  std::vector<double> bb = zero, d = zero;
  const std::vector<double> shift(zero.size(), kBias);
  uint64_t count = 0;
  Scalar().MeanM2(b->Of(&b->x), nullptr, &count, mean.data(), m2.data());
  Scalar().GradSums(b->Of(&b->x), b->Of(&b->dy), nullptr, mean.data(), sum_dy.data(),
                    sum_dy_xc.data());
  const double n = static_cast<double>(count);
  for (size_t i = 0; i < zero.size(); ++i) {
    scale[i] = 1 / std::sqrt(m2[i] / n + kEps);
    bb[i] = -scale[i] * scale[i] * scale[i] * sum_dy_xc[i] / n;
    d[i] = -scale[i] * sum_dy[i] / n;
  }
  Scalar().Affine(b->Of(&b->x), nullptr, mean.data(), scale.data(), shift.data(), b->Of(&b->y));
  Scalar().Grad(b->Of(&b->x), b->Of(&b->dy), nullptr, mean.data(), scale.data(), bb.data(),
                d.data(), b->Of(&b->dx));
}

// docs/numerics.md, reference semantics: the second forward normalises with phi after one
// statistic; the first backward has no correction yet (ema_gz is 0).
void PowerNormSteps(const Case& c, Batch* b) {
  const std::vector<double> zero(static_cast<size_t>(b->grid.channels));
  std::vector<double> sum_x2 = zero, scale = zero, a = zero;
  const std::vector<double> shift(zero.size(), kBias);
  std::vector<double> r(static_cast<size_t>(b->grid.outer * c.groups));
  uint64_t count = 0;
  Scalar().GroupScale(b->Of(&b->x), c.groups, kEps, r.data());
  Scalar().PowerSums(b->Of(&b->x), r.data(), c.groups, nullptr, &count, sum_x2.data());
  for (size_t i = 0; i < zero.size(); ++i) {
    const double power = sum_x2[i] / static_cast<double>(count);
    scale[i] = 1 / std::sqrt(kAlphaFwd * 1 + (1 - kAlphaFwd) * power + kEps);
    a[i] = 1 / std::sqrt(power + kEps);
  }
  Scalar().PowerApply(b->Of(&b->x), r.data(), c.groups, scale.data(), shift.data(), b->Of(&b->y));
  Scalar().PowerGrad(b->Of(&b->x), r.data(), c.groups, b->Of(&b->dy), nullptr, a.data(),
                     zero.data(), b->Of(&b->dx));
}

}  // namespace

std::vector<uint8_t> InputOf(const Case& c, int rank) {
  const uint64_t seed = 10 + static_cast<uint64_t>(rank);
  const double mean = c.power_norm ? 0 : 3.0 + rank;
  return HostTensor(c.dtype, c.elements(), mean, 1 + 0.5 * rank, seed);
}

std::vector<uint8_t> GradientOf(const Case& c, int rank) {
  return HostTensor(c.dtype, c.elements(), 0.25 * rank, 1, 20 + static_cast<uint64_t>(rank));
}

std::string CheckOutputs(const Case& c, const std::vector<Outputs>& got) {
  Batch expected(c, static_cast<int>(got.size()));
  if (c.power_norm) {
    PowerNormSteps(c, &expected);
  } else {
    BatchNormStep(&expected);
  }
  std::vector<uint8_t> y, dx;
  for (const Outputs& rank : got) {
    y.insert(y.end(), rank.y.begin(), rank.y.end());
    dx.insert(dx.end(), rank.dx.begin(), rank.dx.end());
  }
  const std::string wrong = Difference("forward: y", c.dtype, y, expected.y);
  return !wrong.empty() ? wrong : Difference("backward: dx", c.dtype, dx, expected.dx);
}

}  // namespace syncnorm::bench::gpu
