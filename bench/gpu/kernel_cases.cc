#include "bench/gpu/kernel_cases.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "bench/gpu/host_tensor.h"
#include "bench/gpu/verify.h"
#include "kernels/cuda/cuda.h"

namespace syncnorm::bench::gpu {
namespace {

namespace cuda = kernels::cuda;
using kernels::ConstSlab;
using kernels::Grid;
using kernels::Scalar;
using kernels::Slab;

constexpr double kEps = 1e-5;

size_t ChannelBytes(const Grid& grid) {
  return static_cast<size_t>(grid.channels) * sizeof(double);
}

// What both norms have: the tensors on both sides, and where per-channel numbers go.
class Tensors {
 public:
  Tensors(const Case& c, double mean, const Device& device)
      : dtype_(c.dtype),
        grid_(c.grid()),
        x_host_(HostTensor(c.dtype, c.elements(), mean, 1, 1)),
        dy_host_(HostTensor(c.dtype, c.elements(), 0, 1, 2)),
        x_(x_host_.size()),
        dy_(x_host_.size()),
        out_(x_host_.size()),
        scratch_(cuda::ScratchBytes(grid_, c.groups, c.dtype, device.multiprocessors)),
        multiprocessors_(device.multiprocessors) {
    x_.Put(x_host_.data(), x_host_.size());
    dy_.Put(dy_host_.data(), dy_host_.size());
  }

  ConstSlab x_host() const { return {x_host_.data(), dtype_, grid_}; }
  ConstSlab dy_host() const { return {dy_host_.data(), dtype_, grid_}; }
  ConstSlab x() const { return {x_.get(), dtype_, grid_}; }
  ConstSlab dy() const { return {dy_.get(), dtype_, grid_}; }
  Slab out() const { return {out_.get(), dtype_, grid_}; }
  size_t bytes() const { return x_host_.size(); }
  int64_t positions() const { return grid_.positions(); }
  const Grid& grid() const { return grid_; }
  DType dtype() const { return dtype_; }

  cuda::Launch On(cudaStream_t stream) const { return {stream, multiprocessors_, scratch_.get()}; }

  // "" if what the device wrote to out() is what `scalar` computes.
  template <class F>
  std::string CheckOut(const char* what, const F& scalar) const {
    std::vector<uint8_t> got(bytes()), expected(bytes());
    out_.Get(got.data(), got.size());
    scalar(Slab{expected.data(), dtype_, grid_});
    return Difference(what, dtype_, got, expected);
  }

 private:
  DType dtype_;
  Grid grid_;
  std::vector<uint8_t> x_host_, dy_host_;
  DeviceBytes x_, dy_, out_, scratch_;
  int multiprocessors_;
};

// Doubles per channel, on the device.
class Row {
 public:
  explicit Row(const Grid& grid) : count_(static_cast<size_t>(grid.channels)), data_(bytes()) {}
  double* get() const { return data_.as<double>(); }
  void Put(const std::vector<double>& values) { data_.Put(values.data(), bytes()); }
  std::vector<double> Read() const {
    std::vector<double> values(count_);
    data_.Get(values.data(), bytes());
    return values;
  }

 private:
  size_t bytes() const { return count_ * sizeof(double); }
  size_t count_;
  DeviceBytes data_;
};

void RunOnce(const Variant& variant) {
  variant.run(nullptr);
  Check(cudaDeviceSynchronize(), variant.name.c_str());
}

// The floor: copies within the device that move as many bytes as 1, 2 and 3 passes over a tensor.
class Copies {
 public:
  explicit Copies(size_t tensor_bytes)
      : bytes_(tensor_bytes), from_(tensor_bytes * 3 / 2), to_(tensor_bytes * 3 / 2) {}

  void AddTo(std::vector<Variant>* variants) const {
    for (int passes = 1; passes <= 3; ++passes) {
      // A copy of half the bytes reads and writes them.
      const size_t bytes = std::max<size_t>(bytes_ * static_cast<size_t>(passes) / 2, 1);
      variants->push_back(
          {"copy_" + std::to_string(passes), static_cast<double>(passes),
           [this, bytes](cudaStream_t stream) {
             Check(cudaMemcpyAsync(to_.get(), from_.get(), bytes, cudaMemcpyDeviceToDevice, stream),
                   "cudaMemcpyAsync");
           }});
    }
  }

 private:
  size_t bytes_;
  DeviceBytes from_, to_;
};

nlohmann::json Timed(std::vector<Variant> variants, const Tensors& tensors, const Case& c,
                     const Device& device) {
  const Copies copies(tensors.bytes());
  copies.AddTo(&variants);
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  const std::vector<std::vector<double>> times = Time(variants, c.repetitions, device, stream);
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
  nlohmann::json results = nlohmann::json::array();
  for (size_t v = 0; v < variants.size(); ++v) {
    results.push_back(
        {{"variant", variants[v].name}, {"passes", variants[v].passes}, {"times_us", times[v]}});
  }
  return {{"results", results}};
}

nlohmann::json BatchNorm(const Case& c, const Device& device) {
  const Tensors t(c, 3, device);
  const Grid& grid = t.grid();
  const double n = static_cast<double>(t.positions());
  const std::vector<double> zero(static_cast<size_t>(grid.channels));

  // What is expected, and the coefficients of the maps, as client/norms makes them.
  uint64_t count = 0;
  std::vector<double> mean = zero, m2 = zero, scale = zero, shift = zero, sum_dy = zero;
  std::vector<double> sum_dy_xc = zero, b = zero, d = zero;
  Scalar().MeanM2(t.x_host(), nullptr, &count, mean.data(), m2.data());
  Scalar().GradSums(t.x_host(), t.dy_host(), nullptr, mean.data(), sum_dy.data(), sum_dy_xc.data());
  for (size_t i = 0; i < zero.size(); ++i) {
    scale[i] = 1 / std::sqrt(m2[i] / n + kEps);
    shift[i] = 0.25;
    b[i] = -scale[i] * scale[i] * scale[i] * sum_dy_xc[i] / n;
    d[i] = -scale[i] * sum_dy[i] / n;
  }
  const DeviceBytes counted(sizeof(uint64_t));
  Row center(grid), scales(grid), shifts(grid), bs(grid), ds(grid), first(grid), second(grid);
  center.Put(mean);
  scales.Put(scale);
  shifts.Put(shift);
  bs.Put(b);
  ds.Put(d);

  const std::vector<Variant> variants = {
      {"MeanM2", 1,
       [&](cudaStream_t s) {
         Check(cuda::MeanM2(t.x(), nullptr, counted.as<uint64_t>(), first.get(), second.get(),
                            t.On(s)),
               "MeanM2");
       }},
      {"Affine", 2,
       [&](cudaStream_t s) {
         Check(cuda::Affine(t.x(), nullptr, center.get(), scales.get(), shifts.get(), t.out(),
                            t.On(s)),
               "Affine");
       }},
      {"GradSums", 2,
       [&](cudaStream_t s) {
         Check(cuda::GradSums(t.x(), t.dy(), nullptr, center.get(), counted.as<uint64_t>(),
                              first.get(), second.get(), t.On(s)),
               "GradSums");
       }},
      {"Grad", 3, [&](cudaStream_t s) {
         Check(cuda::Grad(t.x(), t.dy(), nullptr, center.get(), scales.get(), bs.get(), ds.get(),
                          t.out(), t.On(s)),
               "Grad");
       }}};

  const double sum_bound = SumBound(c.dtype, t.positions());
  RunOnce(variants[0]);
  std::string wrong = Difference("MeanM2: mean", first.Read(), mean, MeanBound(c.dtype));
  if (wrong.empty()) wrong = Difference("MeanM2: M2", second.Read(), m2, sum_bound);
  RunOnce(variants[1]);
  if (wrong.empty()) {
    wrong = t.CheckOut("Affine: y", [&](const Slab& y) {
      Scalar().Affine(t.x_host(), nullptr, mean.data(), scale.data(), shift.data(), y);
    });
  }
  RunOnce(variants[2]);
  if (wrong.empty()) wrong = Difference("GradSums: sum dy", first.Read(), sum_dy, sum_bound);
  if (wrong.empty()) {
    wrong = Difference("GradSums: sum dy (x - mean)", second.Read(), sum_dy_xc, sum_bound);
  }
  RunOnce(variants[3]);
  if (wrong.empty()) {
    wrong = t.CheckOut("Grad: dx", [&](const Slab& dx) {
      Scalar().Grad(t.x_host(), t.dy_host(), nullptr, mean.data(), scale.data(), b.data(), d.data(),
                    dx);
    });
  }
  if (!wrong.empty()) return {{"wrong", wrong}};
  return Timed(variants, t, c, device);
}

// r as the kernels take it: double for f64, else float.
std::vector<double> ReadFactors(const DeviceBytes& r, DType dtype, size_t count) {
  std::vector<double> values(count);
  if (dtype == DType::kF64) {
    r.Get(values.data(), count * sizeof(double));
    return values;
  }
  std::vector<float> narrow(count);
  r.Get(narrow.data(), count * sizeof(float));
  std::copy(narrow.begin(), narrow.end(), values.begin());
  return values;
}

nlohmann::json PowerNorm(const Case& c, const Device& device) {
  const Tensors t(c, 0, device);
  const Grid& grid = t.grid();
  const double n = static_cast<double>(t.positions());
  const size_t factors = static_cast<size_t>(t.positions() * c.groups);
  const std::vector<double> zero(static_cast<size_t>(grid.channels));

  uint64_t count = 0;
  std::vector<double> r(factors), sum_x2 = zero, scale = zero, shift = zero, a = zero, b = zero;
  std::vector<double> sum_dy = zero, sum_dy_xs = zero, sum_xs2 = zero;
  Scalar().GroupScale(t.x_host(), c.groups, kEps, r.data());
  Scalar().PowerSums(t.x_host(), r.data(), c.groups, nullptr, &count, sum_x2.data());
  Scalar().PowerGradSums(t.x_host(), r.data(), c.groups, t.dy_host(), nullptr, &count,
                         sum_dy.data(), sum_dy_xs.data(), sum_xs2.data());
  for (size_t i = 0; i < zero.size(); ++i) {
    scale[i] = a[i] = 1 / std::sqrt(sum_x2[i] / n + kEps);
    shift[i] = 0.25;
    b[i] = -scale[i] * sum_dy_xs[i] / n;
  }
  const DeviceBytes counted(sizeof(uint64_t)), device_r(factors * sizeof(double));
  Row scales(grid), shifts(grid), bs(grid), first(grid), second(grid), third(grid);
  scales.Put(scale);
  shifts.Put(shift);
  bs.Put(b);

  const std::vector<Variant> variants = {
      {"GroupScale", 1,
       [&](cudaStream_t s) {
         Check(cuda::GroupScale(t.x(), c.groups, kEps, device_r.get(), t.On(s)), "GroupScale");
       }},
      {"PowerSums", 1,
       [&](cudaStream_t s) {
         Check(cuda::PowerSums(t.x(), device_r.get(), c.groups, nullptr, counted.as<uint64_t>(),
                               first.get(), t.On(s)),
               "PowerSums");
       }},
      {"PowerApply", 2,
       [&](cudaStream_t s) {
         Check(cuda::PowerApply(t.x(), device_r.get(), c.groups, scales.get(), shifts.get(),
                                t.out(), t.On(s)),
               "PowerApply");
       }},
      {"PowerGradSums", 2,
       [&](cudaStream_t s) {
         Check(cuda::PowerGradSums(t.x(), device_r.get(), c.groups, t.dy(), nullptr,
                                   counted.as<uint64_t>(), first.get(), second.get(), third.get(),
                                   t.On(s)),
               "PowerGradSums");
       }},
      {"PowerGrad", 3, [&](cudaStream_t s) {
         Check(cuda::PowerGrad(t.x(), device_r.get(), c.groups, t.dy(), nullptr, scales.get(),
                               bs.get(), t.out(), t.On(s)),
               "PowerGrad");
       }}};

  const double sum_bound = SumBound(c.dtype, t.positions());
  RunOnce(variants[0]);
  std::string wrong =
      Difference("GroupScale: r", ReadFactors(device_r, c.dtype, factors), r, MeanBound(c.dtype));
  RunOnce(variants[1]);
  if (wrong.empty()) wrong = Difference("PowerSums: sum xs^2", first.Read(), sum_x2, sum_bound);
  RunOnce(variants[2]);
  if (wrong.empty()) {
    wrong = t.CheckOut("PowerApply: y", [&](const Slab& y) {
      Scalar().PowerApply(t.x_host(), r.data(), c.groups, scale.data(), shift.data(), y);
    });
  }
  RunOnce(variants[3]);
  if (wrong.empty()) wrong = Difference("PowerGradSums: sum dy", first.Read(), sum_dy, sum_bound);
  if (wrong.empty()) {
    wrong = Difference("PowerGradSums: sum dy xs", second.Read(), sum_dy_xs, sum_bound);
  }
  if (wrong.empty()) {
    wrong = Difference("PowerGradSums: sum xs^2", third.Read(), sum_xs2, sum_bound);
  }
  RunOnce(variants[4]);
  if (wrong.empty()) {
    wrong = t.CheckOut("PowerGrad: dx", [&](const Slab& dx) {
      Scalar().PowerGrad(t.x_host(), r.data(), c.groups, t.dy_host(), nullptr, a.data(), b.data(),
                         dx);
    });
  }
  if (!wrong.empty()) return {{"wrong", wrong}};
  return Timed(variants, t, c, device);
}

}  // namespace

nlohmann::json MeasureKernels(const Case& c, const Device& device) {
  // Three tensors, copies of one and a half each way, and what is small.
  const size_t needed = static_cast<size_t>(c.elements()) * SizeOf(c.dtype) * 6 +
                        2 * device.cache_bytes + 20 * ChannelBytes(c.grid()) + (size_t{64} << 20);
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  if (needed > free) {
    return {{"skipped", "it needs " + std::to_string(needed >> 20) + " MiB, and " +
                            std::to_string(free >> 20) + " are free on the device"}};
  }
  return c.power_norm ? PowerNorm(c, device) : BatchNorm(c, device);
}

}  // namespace syncnorm::bench::gpu
