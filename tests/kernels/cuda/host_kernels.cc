#include "tests/kernels/cuda/host_kernels.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/device.h"

namespace syncnorm::kernels::cuda {
namespace {

// Memory of the host, for the time of one call, on the device.
class Mirror {
 public:
  Mirror(const void* host, size_t bytes)
      : host_(host), array_(bytes, reinterpret_cast<uintptr_t>(host) % 64) {}
  ~Mirror() { EXPECT_TRUE(array_.PoisonIsIntact()) << "written outside of the tensor"; }

  const void* host() const { return host_; }
  void* device() const { return array_.data(); }
  // Only inputs are ever written before the operation: a checker sees reads of anything else.
  void Put() { array_.Put(host_); }
  void CopyBack(void* to) const { array_.Get(to); }

 private:
  const void* host_;
  DeviceArray array_;
};

// The operands of one call.
class Call {
 public:
  explicit Call(const Launch& on) : on_(on) {}

  ConstSlab In(const ConstSlab& slab) {
    Mirror& mirror = Of(slab.data, Bytes(slab));
    mirror.Put();
    return {mirror.device(), slab.dtype, slab.grid};
  }
  Slab Out(const Slab& slab) {
    outputs_.push_back({slab.data, Bytes(slab)});
    return {Of(slab.data, Bytes(slab)).device(), slab.dtype, slab.grid};
  }
  template <class T>
  const T* In(const T* host, int64_t count) {
    if (host == nullptr) return nullptr;
    Mirror& mirror = Of(host, static_cast<size_t>(count) * sizeof(T));
    mirror.Put();
    return static_cast<const T*>(mirror.device());
  }
  template <class T>
  T* Out(T* host, int64_t count) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    outputs_.push_back({host, bytes});
    return static_cast<T*>(Of(host, bytes).device());
  }

  void Finish(cudaError_t launched) {
    Check(launched, "launch");
    Check(cudaStreamSynchronize(on_.stream), "run");
    for (const auto& [host, bytes] : outputs_) Find(host)->CopyBack(host);
  }

 private:
  static size_t Bytes(const ConstSlab& slab) {
    return static_cast<size_t>(slab.grid.positions() * slab.grid.channels) * SizeOf(slab.dtype);
  }
  Mirror* Find(const void* host) {
    for (auto& mirror : mirrors_) {
      if (mirror->host() == host) return mirror.get();
    }
    return nullptr;
  }
  Mirror& Of(const void* host, size_t bytes) {
    if (Find(host) == nullptr) mirrors_.push_back(std::make_unique<Mirror>(host, bytes));
    return *Find(host);
  }

  Launch on_;
  std::vector<std::unique_ptr<Mirror>> mirrors_;
  std::vector<std::pair<void*, size_t>> outputs_;
};

class HostKernels final : public Kernels {
 public:
  explicit HostKernels(std::vector<int> multiprocessors)
      : multiprocessors_(std::move(multiprocessors)) {
    Check(cudaStreamCreateWithFlags(&on_.stream, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~HostKernels() override { cudaStreamDestroy(on_.stream); }

  std::string_view name() const override { return "cuda"; }

  void MeanM2(const ConstSlab& x, const uint8_t* valid, uint64_t* count, double* mean,
              double* m2) const override {
    const int64_t channels = x.grid.channels;
    const Launch on = Next(x, 1);
    Call call(on);
    call.Finish(cuda::MeanM2(call.In(x), call.In(valid, x.grid.positions()), call.Out(count, 1),
                             call.Out(mean, channels), call.Out(m2, channels), on));
  }

  void Affine(const ConstSlab& x, const uint8_t* valid, const double* center, const double* scale,
              const double* shift, const Slab& y) const override {
    const int64_t channels = x.grid.channels;
    const Launch on = Next(x, 1);
    Call call(on);
    call.Finish(cuda::Affine(call.In(x), call.In(valid, x.grid.positions()),
                             call.In(center, channels), call.In(scale, channels),
                             call.In(shift, channels), call.Out(y), on));
  }

  void GradSums(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
                double* sum_dy, double* sum_dy_xc) const override {
    const int64_t channels = x.grid.channels;
    uint64_t count = 999;
    const Launch on = Next(x, 1);
    Call call(on);
    call.Finish(cuda::GradSums(call.In(x), call.In(dy), call.In(valid, x.grid.positions()),
                               call.In(center, channels), call.Out(&count, 1),
                               call.Out(sum_dy, channels), call.Out(sum_dy_xc, channels), on));
    uint64_t expected = 0;
    for (int64_t p = 0; p < x.grid.positions(); ++p) expected += valid == nullptr || valid[p] != 0;
    EXPECT_EQ(count, channels == 0 ? 0 : expected);
  }

  void Grad(const ConstSlab& x, const ConstSlab& dy, const uint8_t* valid, const double* center,
            const double* a, const double* b, const double* d, const Slab& dx) const override {
    const int64_t channels = x.grid.channels;
    const Launch on = Next(x, 1);
    Call call(on);
    call.Finish(cuda::Grad(call.In(x), call.In(dy), call.In(valid, x.grid.positions()),
                           call.In(center, channels), call.In(a, channels), call.In(b, channels),
                           call.In(d, channels), call.Out(dx), on));
  }

  void GroupScale(const ConstSlab& x, int64_t groups, double eps, double* r) const override {
    const int64_t factors = x.grid.outer * groups;
    if (x.dtype == DType::kF64) {
      const Launch on = Next(x, groups);
      Call call(on);
      call.Finish(cuda::GroupScale(call.In(x), groups, eps, call.Out(r, factors), on));
      return;
    }
    std::vector<float> narrow(static_cast<size_t>(factors) + 1);
    const Launch on = Next(x, groups);
    Call call(on);
    call.Finish(cuda::GroupScale(call.In(x), groups, eps, call.Out(narrow.data(), factors), on));
    std::copy_n(narrow.begin(), factors, r);
  }

  void PowerSums(const ConstSlab& x, const double* r, int64_t groups, const uint8_t* valid,
                 uint64_t* count, double* sum_x2) const override {
    const std::vector<float> narrow = Narrow(x, r, groups);
    const Launch on = Next(x, groups);
    Call call(on);
    call.Finish(cuda::PowerSums(call.In(x), Factors(call, x, r, groups, narrow), groups,
                                call.In(valid, x.grid.outer), call.Out(count, 1),
                                call.Out(sum_x2, x.grid.channels), on));
  }

  void PowerApply(const ConstSlab& x, const double* r, int64_t groups, const double* scale,
                  const double* shift, const Slab& y) const override {
    const int64_t channels = x.grid.channels;
    const std::vector<float> narrow = Narrow(x, r, groups);
    const Launch on = Next(x, groups);
    Call call(on);
    call.Finish(cuda::PowerApply(call.In(x), Factors(call, x, r, groups, narrow), groups,
                                 call.In(scale, channels), call.In(shift, channels), call.Out(y),
                                 on));
  }

  void PowerGradSums(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                     const uint8_t* valid, uint64_t* count, double* sum_dy, double* sum_dy_xs,
                     double* sum_xs2) const override {
    const int64_t channels = x.grid.channels;
    const std::vector<float> narrow = Narrow(x, r, groups);
    const Launch on = Next(x, groups);
    Call call(on);
    call.Finish(cuda::PowerGradSums(call.In(x), Factors(call, x, r, groups, narrow), groups,
                                    call.In(dy), call.In(valid, x.grid.outer), call.Out(count, 1),
                                    call.Out(sum_dy, channels), call.Out(sum_dy_xs, channels),
                                    call.Out(sum_xs2, channels), on));
  }

  void PowerGrad(const ConstSlab& x, const double* r, int64_t groups, const ConstSlab& dy,
                 const uint8_t* valid, const double* a, const double* b,
                 const Slab& dx) const override {
    const int64_t channels = x.grid.channels;
    const std::vector<float> narrow = Narrow(x, r, groups);
    const Launch on = Next(x, groups);
    Call call(on);
    call.Finish(cuda::PowerGrad(call.In(x), Factors(call, x, r, groups, narrow), groups,
                                call.In(dy), call.In(valid, x.grid.outer), call.In(a, channels),
                                call.In(b, channels), call.Out(dx), on));
  }

 private:
  // Where the next call runs, with scratch for a sum over x in `groups` where there are any.
  Launch Next(const ConstSlab& x, int64_t groups) const {
    on_.multiprocessors = multiprocessors_[calls_++ % multiprocessors_.size()];
    const size_t bytes = ScratchBytes(x.grid, groups, x.dtype, on_.multiprocessors);
    if (bytes > 0 && (scratch_ == nullptr || scratch_->bytes() < bytes)) {
      scratch_ = std::make_unique<DeviceArray>(bytes, 0);
      scratch_->Put(std::vector<uint8_t>(bytes).data());
    }
    Launch on = on_;
    if (bytes > 0) on.scratch = scratch_->data();
    return on;
  }

  static std::vector<float> Narrow(const ConstSlab& x, const double* r, int64_t groups) {
    std::vector<float> narrow(r, r + x.grid.outer * groups);
    narrow.reserve(1);
    return narrow;
  }
  static const void* Factors(Call& call, const ConstSlab& x, const double* r, int64_t groups,
                             const std::vector<float>& narrow) {
    const int64_t factors = x.grid.outer * groups;
    if (x.dtype == DType::kF64) return call.In(r, factors);
    return call.In(narrow.data(), factors);
  }

  const std::vector<int> multiprocessors_;
  mutable size_t calls_ = 0;
  mutable Launch on_;
  mutable std::unique_ptr<DeviceArray> scratch_;
};

}  // namespace

std::unique_ptr<Kernels> OnHostMemory(std::vector<int> multiprocessors) {
  return std::make_unique<HostKernels>(std::move(multiprocessors));
}

}  // namespace syncnorm::kernels::cuda
