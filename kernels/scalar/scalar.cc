// The definition: what every other backend is measured against.  Plain loops,
// one element at a time, every intermediate in double, rounded once on store.
#include <cmath>
#include <cstdint>

#include "kernels/element.h"
#include "kernels/kernels.h"

namespace syncnorm::kernels {
namespace {

double Read(const ConstSlab& slab, int64_t at) { return ReadElement(slab.dtype, slab.data, at); }

void Write(const Slab& slab, int64_t at, double value) {
  WriteElement(slab.dtype, slab.data, at, value);
}

// Calls visit(element index, is the position valid) for all positions of
// channel c.
template <typename Visit>
void ForEach(const Grid& grid, int64_t c, const uint8_t* valid, const Visit& visit) {
  for (int64_t o = 0; o < grid.outer; ++o) {
    for (int64_t i = 0; i < grid.inner; ++i) {
      visit((o * grid.channels + c) * grid.inner + i,
            valid == nullptr || valid[o * grid.inner + i] != 0);
    }
  }
}

uint64_t CountValid(const Grid& grid, const uint8_t* valid) {
  uint64_t count = 0;
  for (int64_t p = 0; p < grid.positions(); ++p) count += valid == nullptr || valid[p] != 0;
  return count;
}

class ScalarKernels final : public Kernels {
 public:
  std::string_view name() const override { return "scalar"; }

  // Two passes about the first valid value: a constant channel has an M2 of
  // exactly 0, and the last term takes out what rounding left in the mean.
  void MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean,
              double* m2) const override {
    *count = CountValid(x.grid, valid);
    const double n = static_cast<double>(*count);
    for (int64_t c = 0; c < x.grid.channels; ++c) {
      mean[c] = m2[c] = 0;
      if (*count == 0) continue;
      double first = 0, sum = 0, residue = 0;
      bool seen = false;
      ForEach(x.grid, c, valid, [&](int64_t at, bool ok) {
        if (!ok) return;
        if (!seen) first = Read(x, at);
        seen = true;
        sum += Read(x, at) - first;
      });
      mean[c] = first + sum / n;
      ForEach(x.grid, c, valid, [&](int64_t at, bool ok) {
        if (!ok) return;
        const double deviation = Read(x, at) - mean[c];
        residue += deviation;
        m2[c] += deviation * deviation;
      });
      m2[c] -= residue * residue / n;
    }
  }

  void Affine(const ConstSlab& x, const uint8_t* valid, const double* center, const double* scale,
              const double* shift, const Slab& y) const override {
    for (int64_t c = 0; c < x.grid.channels; ++c) {
      ForEach(x.grid, c, valid, [&](int64_t at, bool ok) {
        Write(y, at, ok ? (Read(x, at) - center[c]) * scale[c] + shift[c] : 0);
      });
    }
  }

  void GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
                double* sum_dy, double* sum_dy_xc) const override {
    for (int64_t c = 0; c < x.grid.channels; ++c) {
      sum_dy[c] = sum_dy_xc[c] = 0;
      ForEach(x.grid, c, valid, [&](int64_t at, bool ok) {
        if (!ok) return;
        sum_dy[c] += Read(dy, at);
        sum_dy_xc[c] += Read(dy, at) * (Read(x, at) - center[c]);
      });
    }
  }

  void Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
            const double* a, const double* b, const double* d, const Slab& dx) const override {
    for (int64_t c = 0; c < x.grid.channels; ++c) {
      ForEach(x.grid, c, valid, [&](int64_t at, bool ok) {
        Write(dx, at, ok ? a[c] * Read(dy, at) + b[c] * (Read(x, at) - center[c]) + d[c] : 0);
      });
    }
  }

  void GroupScale(const ConstSlab& x, int64_t groups, double eps, double* r) const override {
    const int64_t size = x.grid.channels / groups;
    for (int64_t tg = 0; tg < x.grid.outer * groups; ++tg) {
      double sum = 0;
      for (int64_t at = tg * size; at < (tg + 1) * size; ++at) sum += Read(x, at) * Read(x, at);
      r[tg] = 1 / std::sqrt(sum / static_cast<double>(size) + eps);
    }
  }

  void PowerSums(const ConstSlab& x, const double* r, int64_t groups, const uint8_t* valid,
                 uint64_t* count, double* sum_x2) const override {
    const int64_t size = x.grid.channels / groups;
    *count = CountValid(x.grid, valid);
    for (int64_t c = 0; c < x.grid.channels; ++c) {
      sum_x2[c] = 0;
      ForEach(x.grid, c, valid, [&](int64_t at, bool ok) {
        if (!ok) return;
        const double xs = Read(x, at) * r[at / size];
        sum_x2[c] += xs * xs;
      });
    }
  }

  void PowerApply(const ConstSlab& x, const double* r, int64_t groups, const double* scale,
                  const double* shift, const Slab& y) const override {
    const int64_t size = x.grid.channels / groups;
    for (int64_t c = 0; c < x.grid.channels; ++c) {
      ForEach(x.grid, c, nullptr, [&](int64_t at, bool) {
        Write(y, at, Read(x, at) * r[at / size] * scale[c] + shift[c]);
      });
    }
  }

  void PowerGradSums(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                     const uint8_t* valid, uint64_t* count, double* sum_dy, double* sum_dy_xs,
                     double* sum_xs2) const override {
    const int64_t size = x.grid.channels / groups;
    *count = CountValid(x.grid, valid);
    for (int64_t c = 0; c < x.grid.channels; ++c) {
      sum_dy[c] = sum_dy_xs[c] = sum_xs2[c] = 0;
      ForEach(x.grid, c, valid, [&](int64_t at, bool ok) {
        if (!ok) return;
        const double xs = Read(x, at) * r[at / size];
        sum_dy[c] += Read(dy, at);
        sum_dy_xs[c] += Read(dy, at) * xs;
        sum_xs2[c] += xs * xs;
      });
    }
  }

  void PowerGrad(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                 const uint8_t* valid, const double* a, const double* b,
                 const Slab& dx) const override {
    const int64_t channels = x.grid.channels;
    const int64_t size = channels / groups;
    for (int64_t tg = 0; tg < x.grid.outer * groups; ++tg) {
      const bool ok = valid == nullptr || valid[tg / groups] != 0;
      const int64_t begin = tg * size;
      const int64_t end = begin + size;
      const double rt = r[tg];
      const auto gradient = [&](int64_t at) {
        return a[at % channels] * Read(dy, at) + b[at % channels] * Read(x, at) * rt;
      };
      double sum = 0;
      for (int64_t at = begin; ok && at < end; ++at) sum += Read(x, at) * gradient(at);
      const double pull = rt * rt * rt * sum / static_cast<double>(size);
      for (int64_t at = begin; at < end; ++at) {
        Write(dx, at, ok ? rt * gradient(at) - Read(x, at) * pull : 0);
      }
    }
  }
};

}  // namespace

const Kernels& Scalar() {
  static const ScalarKernels kernels;
  return kernels;
}

}  // namespace syncnorm::kernels
