#include "bench/kernels/cases.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "bench/kernels/copy.h"
#include "bench/kernels/pytorch.h"
#include "kernels/element.h"

namespace syncnorm::bench {
namespace {

using kernels::Cpu;
using kernels::Grid;
using kernels::Kernels;
using kernels::Scalar;
using kernels::Slab;

double Get(const Slab& slab, size_t at) {
  return kernels::ReadElement(slab.dtype, slab.data, static_cast<int64_t>(at));
}

void Put(const Slab& slab, size_t at, double value) {
  kernels::WriteElement(slab.dtype, slab.data, static_cast<int64_t>(at), value);
}

class Memory {
 public:
  Memory(DType dtype, const Grid& grid)
      : elements_(static_cast<size_t>(grid.positions() * grid.channels)),
        bytes_(elements_ * SizeOf(dtype)),
        data_(std::aligned_alloc(64, (bytes_ + 63) / 64 * 64)),
        slab_{data_.get(), dtype, grid} {
    std::memset(data_.get(), 0, bytes_);  // touches every page
  }

  void FillNormal(double mean, double deviation, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(mean, deviation);
    for (size_t i = 0; i < elements_; ++i) Put(slab_, i, normal(random));
  }
  const Slab& slab() const { return slab_; }
  size_t elements() const { return elements_; }
  double bytes() const { return static_cast<double>(bytes_); }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  size_t elements_, bytes_;
  std::unique_ptr<void, Free> data_;
  Slab slab_;
};

void Require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "bench_kernels: %s differs from the scalar backend's\n", what);
  std::exit(1);
}

void RequireNear(const std::vector<double>& got, const std::vector<double>& expected, double bound,
                 const char* what) {
  for (size_t i = 0; i < got.size(); ++i) {
    Require(std::abs(got[i] - expected[i]) <= bound * (std::abs(expected[i]) + 1), what);
  }
}

// Half an ulp of each side's rounding, and the arithmetic between.
void RequireNear(const Memory& got, const Memory& expected, const char* what) {
  const double ulp = got.slab().dtype == DType::kF64    ? 1e-13
                     : got.slab().dtype == DType::kF32  ? 1e-5
                     : got.slab().dtype == DType::kBF16 ? 0x1p-7
                                                        : 0x1p-10;
  for (size_t i = 0; i < got.elements(); ++i) {
    const double e = Get(expected.slab(), i);
    Require(std::abs(Get(got.slab(), i) - e) <= ulp * (std::abs(e) + 1), what);
  }
}

void AddCopies(const nlohmann::json& params, double bytes, const Slab& from, const Slab& to,
               std::shared_ptr<void> keep, std::vector<Variant>* variants) {
  for (const Copy& copy : kCopyVariants) {
    variants->push_back({copy.name, params, 2 * bytes, [=] {
                           (void)keep;
                           copy.run(from.data, to.data, static_cast<size_t>(bytes));
                         }});
  }
}

// ---- Batch norm ---------------------------------------------------------------

// One layer's tensors and per-channel numbers.
struct BatchNorm {
  BatchNorm(DType dtype, const Grid& grid)
      : x(dtype, grid), dy(dtype, grid), y(dtype, grid), dx(dtype, grid), channels(grid.channels) {
    x.FillNormal(3, 1, 1);
    dy.FillNormal(0, 1, 2);
  }

  // As client/norms does it: statistics, then scale = weight / sqrt(var + eps).
  void Statistics(const Kernels& k) {
    k.MeanM2(x.slab(), nullptr, &count, mean.data(), m2.data());
    for (size_t c = 0; c < channels; ++c) {
      scale[c] = 1 / std::sqrt(m2[c] / static_cast<double>(count) + 1e-5);
    }
  }
  void Normalise(const Kernels& k) {
    k.Affine(x.slab(), nullptr, mean.data(), scale.data(), zero.data(), y.slab());
  }
  void Sums(const Kernels& k) {
    k.GradSums(x.slab(), dy.slab(), nullptr, mean.data(), sum_dy.data(), sum_dy_xc.data());
    const double n = static_cast<double>(count);
    for (size_t c = 0; c < channels; ++c) {
      b[c] = -scale[c] * scale[c] * scale[c] * sum_dy_xc[c] / n;
      d[c] = -scale[c] * sum_dy[c] / n;
    }
  }
  void Gradient(const Kernels& k) {
    k.Grad(x.slab(), dy.slab(), nullptr, mean.data(), scale.data(), b.data(), d.data(), dx.slab());
  }
  void Forward(const Kernels& k) {
    Statistics(k);
    Normalise(k);
  }
  void Backward(const Kernels& k) {
    Sums(k);
    Gradient(k);
  }

  Memory x, dy, y, dx;
  size_t channels;
  uint64_t count = 0;
  std::vector<double> zero = std::vector<double>(channels);
  std::vector<double> mean = zero, m2 = zero, scale = zero, sum_dy = zero, sum_dy_xc = zero;
  std::vector<double> b = zero, d = zero;
};

void Verify(BatchNorm* ours, const Grid& grid) {
  BatchNorm expected(ours->x.slab().dtype, grid);
  expected.Forward(Scalar());
  expected.Backward(Scalar());
  ours->Forward(Cpu());
  ours->Backward(Cpu());
  RequireNear(ours->mean, expected.mean, 1e-5, "mean");
  RequireNear(ours->m2, expected.m2, 1e-5, "M2");
  RequireNear(ours->y, expected.y, "y");
  RequireNear(ours->dx, expected.dx, "dx");
}

std::string Join(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t size : shape) text += (text.empty() ? "(" : ", ") + std::to_string(size);
  return text + ")";
}

// ---- PowerNorm ----------------------------------------------------------------

struct PowerNorm {
  PowerNorm(DType dtype, const Grid& grid, int64_t group_count)
      : x(dtype, grid),
        dy(dtype, grid),
        y(dtype, grid),
        dx(dtype, grid),
        groups(group_count),
        r(static_cast<size_t>(grid.outer * group_count)),
        zero(static_cast<size_t>(grid.channels)) {
    x.FillNormal(0, 2, 1);
    dy.FillNormal(0, 1, 2);
  }

  void Forward(const Kernels& k) {
    k.GroupScale(x.slab(), groups, 1e-5, r.data());
    k.PowerSums(x.slab(), r.data(), groups, nullptr, &count, sum_x2.data());
    for (size_t c = 0; c < zero.size(); ++c) {
      scale[c] = 1 / std::sqrt(sum_x2[c] / static_cast<double>(count) + 1e-5);
    }
    k.PowerApply(x.slab(), r.data(), groups, scale.data(), zero.data(), y.slab());
  }
  void Backward(const Kernels& k) {
    k.PowerGradSums(x.slab(), r.data(), groups, dy.slab(), nullptr, &count, sum_dy.data(),
                    sum_dy_xs.data(), sum_xs2.data());
    k.PowerGrad(x.slab(), r.data(), groups, dy.slab(), nullptr, scale.data(), scale.data(),
                dx.slab());
  }

  Memory x, dy, y, dx;
  int64_t groups;
  uint64_t count = 0;
  std::vector<double> r, zero;
  std::vector<double> sum_x2 = zero, scale = zero, sum_dy = zero, sum_dy_xs = zero, sum_xs2 = zero;
};

void Verify(PowerNorm* ours, const Grid& grid) {
  PowerNorm expected(ours->x.slab().dtype, grid, ours->groups);
  expected.Forward(Scalar());
  expected.Backward(Scalar());
  ours->Forward(Cpu());
  ours->Backward(Cpu());
  RequireNear(ours->r, expected.r, 1e-5, "r");
  RequireNear(ours->sum_x2, expected.sum_x2, 1e-5, "sum of squares");
  RequireNear(ours->y, expected.y, "y");
  RequireNear(ours->dx, expected.dx, "dx");
}

}  // namespace

std::string BatchNormCase::Title() const {
  return "batch norm " + std::string(Name(dtype)) + " " + Join(shape) +
         (channels_last ? " channels last" : " contiguous");
}

std::string PowerNormCase::Title() const {
  return "PowerNorm " + std::string(Name(dtype)) + " " + Join({tokens, channels}) + ", " +
         std::to_string(groups) + " groups";
}

std::vector<Variant> VariantsOf(const BatchNormCase& c) {
  const int64_t spatial = c.shape[2] * c.shape[3];
  const Grid grid = c.channels_last ? Grid{c.shape[0] * spatial, c.shape[1], 1}
                                    : Grid{c.shape[0], c.shape[1], spatial};
  const auto layer = std::make_shared<BatchNorm>(c.dtype, grid);
  Verify(layer.get(), grid);
  const double bytes = layer->x.bytes();
  const nlohmann::json params = {{"shape", c.shape},
                                 {"dtype", Name(c.dtype)},
                                 {"layout", c.channels_last ? "channels_last" : "contiguous"},
                                 {"backend", Cpu().name()},
                                 {"threads", 1}};
  std::vector<Variant> variants;
  AddCopies(params, bytes, layer->x.slab(), layer->y.slab(), layer, &variants);
  const auto add = [&](const char* name, double passes, auto run, const char* peer) {
    variants.push_back({name, params, passes * bytes, [=] { run(layer.get()); }, peer});
  };
  add(
      "forward", 3, [](BatchNorm* l) { l->Forward(Cpu()); }, "pytorch_forward");
  add(
      "forward/statistics", 1, [](BatchNorm* l) { l->Statistics(Cpu()); }, "");
  add(
      "forward/normalise", 2, [](BatchNorm* l) { l->Normalise(Cpu()); }, "");
  add(
      "backward", 5, [](BatchNorm* l) { l->Backward(Cpu()); }, "pytorch_backward");
  add(
      "backward/sums", 2, [](BatchNorm* l) { l->Sums(Cpu()); }, "");
  add(
      "backward/gradient", 3, [](BatchNorm* l) { l->Gradient(Cpu()); }, "");
  const PyTorchCalls peer = PyTorchBatchNorm(layer->x.slab().data, layer->dy.slab().data, c.dtype,
                                             c.shape, c.channels_last);
  if (peer.forward) {
    variants.push_back({"pytorch_forward", params, 3 * bytes, peer.forward});
    variants.push_back({"pytorch_backward", params, 5 * bytes, peer.backward});
  }
  return variants;
}

std::vector<Variant> VariantsOf(const PowerNormCase& c) {
  const Grid grid{c.tokens, c.channels, 1};
  const auto layer = std::make_shared<PowerNorm>(c.dtype, grid, c.groups);
  Verify(layer.get(), grid);
  const double bytes = layer->x.bytes();
  const nlohmann::json params = {{"shape", {c.tokens, c.channels}},
                                 {"groups", c.groups},
                                 {"dtype", Name(c.dtype)},
                                 {"backend", Cpu().name()},
                                 {"threads", 1}};
  std::vector<Variant> variants;
  AddCopies(params, bytes, layer->x.slab(), layer->y.slab(), layer, &variants);
  variants.push_back({"power_forward", params, 4 * bytes, [=] { layer->Forward(Cpu()); }});
  variants.push_back({"power_backward", params, 5 * bytes, [=] { layer->Backward(Cpu()); }});
  return variants;
}

}  // namespace syncnorm::bench
