// Both norms on a device alike: a layer with its tensors and a stream, and calls whose tensors are
// made ahead, so that between two calls of the layer nothing waits.
//
// Thread-safety: thread-compatible.
#pragma once

#include <gtest/gtest.h>
#include <syncnorm/device_batch_norm.h>
#include <syncnorm/device_power_norm.h>

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/client/device/device_memory.h"
#include "tests/support/host_tensor.h"

namespace syncnorm::testing {

// One forward's data of one worker, positions x channels.
struct NormData {
  NormData() = default;
  // Random; where `masked`, some positions are hidden, and the first one never.
  NormData(std::mt19937_64* random, int64_t positions, int64_t channels, bool masked = false)
      : x(Normal(random, static_cast<size_t>(positions * channels), 0.5, 2)),
        dy(Normal(random, static_cast<size_t>(positions * channels))) {
    for (int64_t p = 0; masked && p < positions; ++p) mask.push_back(p == 0 || (*random)() % 2);
  }

  Numbers x, dy;
  std::vector<uint8_t> mask;  // 1 = counts; empty: none
};

// What a forward and its backward give.
struct NormResult {
  Numbers y, dx, weight, bias;
  friend bool operator==(const NormResult&, const NormResult&) = default;
};

// What moves: by name.
using NormState = std::map<std::string, Numbers>;

struct BatchNormKind {
  using Norm = DeviceBatchNorm;
  using HostNorm = SyncBatchNorm;
  using Options = BatchNormOptions;
  using Tensors = DeviceBatchNormTensors;
  static constexpr Layout kLayout = Layout::kContiguous;
  static constexpr const char* kStatistics[2] = {"running_mean", "running_var"};
  static constexpr const char* kCounter = "num_batches_tracked";
  static constexpr double kInitially[2] = {0, 1};

  static Tensors Make(DeviceValues weight, DeviceValues bias, DeviceValues first,
                      DeviceValues second, int64_t* counter) {
    return {weight, bias, first, second, counter};
  }
  static absl::Status Forward(Norm* norm, const ConstTensor& x, const uint8_t* mask,
                              const Tensor& y, Norm::Context* context, cudaStream_t stream) {
    const PositionMask positions{mask, PositionMask::Type::kByte, {x.shape[0]}};
    return norm->Forward(x, mask == nullptr ? nullptr : &positions, y, context, stream);
  }
  static std::vector<uint8_t> MaskBytes(const std::vector<uint8_t>& mask) { return mask; }
  static absl::Status Drain(Norm*, cudaStream_t) { return absl::OkStatus(); }
  static absl::Status DrainHost(HostNorm*) { return absl::OkStatus(); }
  static Options Of(int64_t channels) { return {.channels = channels}; }
};

struct PowerNormKind {
  using Norm = DevicePowerNorm;
  using HostNorm = SyncPowerNorm;
  using Options = PowerNormOptions;
  using Tensors = DevicePowerNormTensors;
  static constexpr Layout kLayout = Layout::kTokens;
  static constexpr const char* kStatistics[2] = {"running_phi", "ema_gz"};
  static constexpr const char* kCounter = "iters";
  static constexpr double kInitially[2] = {1, 0};

  static Tensors Make(DeviceValues weight, DeviceValues bias, DeviceValues first,
                      DeviceValues second, int64_t* counter) {
    return {weight, bias, first, second, counter};
  }
  static absl::Status Forward(Norm* norm, const ConstTensor& x, const uint8_t* mask,
                              const Tensor& y, Norm::Context* context, cudaStream_t stream) {
    return norm->Forward(x, mask, y, context, stream);
  }
  static std::vector<uint8_t> MaskBytes(std::vector<uint8_t> mask) {
    for (uint8_t& byte : mask) {
      if (byte < 2) byte = !byte;
    }
    return mask;
  }
  static absl::Status Drain(Norm* norm, cudaStream_t stream) { return norm->Drain(stream); }
  static absl::Status DrainHost(HostNorm* norm) { return norm->Drain(); }
  static Options Of(int64_t channels) { return {.channels = channels, .warmup_iters = 2}; }
};

// Typed tests of both.
using BothKinds = ::testing::Types<BatchNormKind, PowerNormKind>;

template <typename Kind>
class NormOnDevice {
 public:
  using Norm = typename Kind::Norm;
  using Options = typename Kind::Options;

  // A forward and its backward: their tensors, on the device.
  class Call {
   public:
    typename Norm::Context context;

    void Store(const NormData& data) {
      x_.Store(data.x);
      dy_.Store(data.dy);
    }
    // Waits for the stream.
    NormResult Load() {
      NormResult result{y_.Load(), dx_.Load(), {}, {}};
      if (affine_) {
        result.weight = weight_.Load();
        result.bias = bias_.Load();
      }
      return result;
    }
    Numbers LoadY() { return y_.Load(); }
    Tensor x() { return x_.tensor(); }
    Tensor y() { return y_.tensor(); }
    Tensor dy() { return dy_.tensor(); }
    Tensor dx() { return dx_.tensor(); }
    const uint8_t* mask() const { return static_cast<const uint8_t*>(mask_.data()); }

   private:
    friend class NormOnDevice;
    Call(const Stream& stream, DType dtype, DType parameters, int64_t channels, bool affine,
         const NormData& data)
        : shape_({static_cast<int64_t>(data.x.size()) / channels, channels}),
          bytes_(Kind::MaskBytes(data.mask)),
          affine_(affine),
          x_(stream, HostTensor(dtype, shape_, Kind::kLayout, data.x)),
          y_(stream, HostTensor(dtype, shape_, Kind::kLayout)),
          dy_(stream, HostTensor(dtype, shape_, Kind::kLayout, data.dy)),
          dx_(stream, HostTensor(dtype, shape_, Kind::kLayout)),
          mask_(stream, bytes_.data(), bytes_.size()),
          weight_(stream, parameters, Numbers(channels)),
          bias_(stream, parameters, Numbers(channels)) {}

    const std::vector<int64_t> shape_;
    const std::vector<uint8_t> bytes_;
    const bool affine_;
    DeviceTensor x_, y_, dy_, dx_;
    DeviceBytes mask_;
    DeviceNumbers weight_, bias_;
  };

  // The current device must be `device`.
  NormOnDevice(const Options& options, DeviceReducer* reducer, DType dtype = DType::kF64,
               const std::string& name = "norm", int device = 0, DType parameters = DType::kF64,
               DType statistics = DType::kF64)
      : options_(options),
        dtype_(dtype),
        parameters_(parameters),
        weight_(stream_, parameters, Spread(options.channels, 1)),
        bias_(stream_, parameters, Spread(options.channels, -0.5)),
        first_(stream_, statistics, Numbers(options.channels, Kind::kInitially[0])),
        second_(stream_, statistics, Numbers(options.channels, Kind::kInitially[1])),
        counter_(stream_, 0) {
    auto made = Norm::Create(name, options, device, tensors(), reducer);
    EXPECT_TRUE(made.ok()) << made.status();
    if (made.ok()) norm_ = *std::move(made);
  }

  // The parameters that every layer here has.
  static Numbers Spread(int64_t channels, double from) {
    Numbers numbers;
    for (int64_t c = 0; c < channels; ++c) numbers.push_back(from + 0.25 * static_cast<double>(c));
    return numbers;
  }

  typename Kind::Tensors tensors() {
    return Kind::Make(weight_.values(), bias_.values(), first_.values(), second_.values(),
                      counter_.data());
  }
  const Stream& stream() const { return stream_; }
  Norm* operator->() { return norm_.get(); }
  Norm& operator*() { return *norm_; }
  void Destroy() { norm_.reset(); }
  DeviceNumbers& weight() { return weight_; }
  DeviceNumbers& bias() { return bias_; }
  DeviceNumbers& first() { return first_; }  // statistic, by kStatistics
  DeviceNumbers& second() { return second_; }

  // May be used on other streams of this device, too.
  std::unique_ptr<Call> Prepare(const NormData& data) {
    return std::unique_ptr<Call>(
        new Call(stream_, dtype_, parameters_, options_.channels, options_.affine, data));
  }
  // These wait for nothing.
  absl::Status Forward(Call* call) { return Forward(call, stream_.get()); }
  absl::Status Forward(Call* call, cudaStream_t stream) {
    return Kind::Forward(norm_.get(), call->x(), call->mask(), call->y(), &call->context, stream);
  }
  absl::Status Backward(Call* call) { return Backward(call, stream_.get()); }
  absl::Status Backward(Call* call, cudaStream_t stream) {
    const Tensor dx = call->dx();
    const typename Norm::Gradients gradients{call->weight_.values(), call->bias_.values()};
    return norm_->Backward(call->context, call->dy(), &dx, &gradients, stream);
  }
  absl::Status Drain() { return Kind::Drain(norm_.get(), stream_.get()); }

  // A forward and a backward, waited for; any failure of theirs.
  absl::Status Step(Call* call) {
    if (absl::Status forward = Forward(call); !forward.ok()) return forward;
    if (absl::Status backward = Backward(call); !backward.ok()) return backward;
    stream_.Synchronize();
    return norm_->Check();
  }
  // The same, with a call of its own.
  NormResult Step(const NormData& data) {
    const auto call = Prepare(data);
    const absl::Status status = Step(call.get());
    EXPECT_TRUE(status.ok()) << status;
    return call->Load();
  }

  // Of the device now.  Waits for the stream.
  NormState State() {
    return {{Kind::kStatistics[0], first_.Load()},
            {Kind::kStatistics[1], second_.Load()},
            {Kind::kCounter, {static_cast<double>(counter_.Load())}}};
  }
  NormState Drained() {
    const absl::Status drained = Drain();
    EXPECT_TRUE(drained.ok()) << drained;
    return State();
  }

 private:
  const Options options_;
  const DType dtype_, parameters_;
  Stream stream_;
  DeviceNumbers weight_, bias_, first_, second_;
  DeviceCounter counter_;
  std::unique_ptr<Norm> norm_;
};

// The same on the CPU: the layer has the parameters of NormOnDevice.
template <typename Kind>
class NormOnHost {
 public:
  NormOnHost(const typename Kind::Options& options, Reducer* reducer, DType dtype = DType::kF64,
             const std::string& name = "norm")
      : options_(options), dtype_(dtype) {
    auto made = Kind::HostNorm::Create(name, options, reducer);
    EXPECT_TRUE(made.ok()) << made.status();
    norm_ = *std::move(made);
    if (!options.affine) return;
    norm_->weight() = NormOnDevice<Kind>::Spread(options.channels, 1);
    norm_->bias() = NormOnDevice<Kind>::Spread(options.channels, -0.5);
  }

  typename Kind::HostNorm* operator->() { return norm_.get(); }

  NormResult Step(const NormData& data) {
    const std::vector<int64_t> shape = {static_cast<int64_t>(data.x.size()) / options_.channels,
                                        options_.channels};
    const HostTensor x(dtype_, shape, Kind::kLayout, data.x);
    const HostTensor dy(dtype_, shape, Kind::kLayout, data.dy);
    HostTensor y(dtype_, shape, Kind::kLayout), dx = y;
    const std::vector<uint8_t> bytes = Kind::MaskBytes(data.mask);
    typename Kind::HostNorm::Context context;
    absl::Status status;
    const uint8_t* const mask = bytes.empty() ? nullptr : bytes.data();
    if constexpr (std::is_same_v<Kind, BatchNormKind>) {
      const PositionMask positions{mask, PositionMask::Type::kByte, {shape[0]}};
      status =
          norm_->Forward(x.tensor(), mask == nullptr ? nullptr : &positions, y.tensor(), &context);
    } else {
      status = norm_->Forward(x.tensor(), mask, y.tensor(), &context);
    }
    EXPECT_TRUE(status.ok()) << status;
    const Tensor dx_tensor = dx.tensor();
    typename Kind::HostNorm::Gradients gradients;
    status = norm_->Backward(context, dy.tensor(), &dx_tensor, &gradients);
    EXPECT_TRUE(status.ok()) << status;
    return {y.Load(), dx.Load(), gradients.weight, gradients.bias};
  }

  NormState Drained() {
    const absl::Status drained = Kind::DrainHost(norm_.get());
    EXPECT_TRUE(drained.ok()) << drained;
    NormState all;
    if constexpr (std::is_same_v<Kind, BatchNormKind>) {
      all = norm_->State();
    } else {
      all = *norm_->State();
    }
    all.erase("weight");
    all.erase("bias");
    return all;
  }

 private:
  const typename Kind::Options options_;
  const DType dtype_;
  std::unique_ptr<typename Kind::HostNorm> norm_;
};

// A DeviceReducer, or a test failure and null.
inline std::unique_ptr<DeviceReducer> OnStreams(Reducer* group, DeviceReducerOptions options = {}) {
  auto made = DeviceReducer::Create(group, options);
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

}  // namespace syncnorm::testing
