#include "tests/client/device/batch_norm_device_run.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "tests/client/device/device_memory.h"

namespace syncnorm::testing {
namespace {

class Member {
 public:
  Member(const BatchNormOptions& options, const DeviceTraining& training, DeviceReducer* reducer)
      : options_(options),
        training_(training),
        weight_(stream_, training.parameters, Numbers(options.channels, 1)),
        bias_(stream_, training.parameters, Numbers(options.channels, 0)),
        mean_(stream_, DType::kF64, Numbers(options.channels, 0)),
        var_(stream_, DType::kF64, Numbers(options.channels, 1)),
        batches_(stream_, 0) {
    DeviceBatchNormTensors tensors;
    if (options.affine) {
      tensors.weight = weight_.values();
      tensors.bias = bias_.values();
    }
    if (options.track_running_stats) {
      tensors.running_mean = mean_.values();
      tensors.running_var = var_.values();
      tensors.num_batches_tracked = batches_.data();
    }
    auto norm = DeviceBatchNorm::Create("bn", options, 0, tensors, reducer);
    EXPECT_TRUE(norm.ok()) << norm.status();
    if (norm.ok()) norm_ = *std::move(norm);
  }

  void Step(size_t s, int rank, const BatchNormStep& step, DType dtype, Layout layout,
            BatchNormResult* result) {
    ASSERT_NE(norm_, nullptr);
    if (options_.affine) {
      weight_.Store(step.weight);
      bias_.Store(step.bias);
    }
    DeviceTensor x(stream_, HostTensor(dtype, step.shapes[rank], layout, step.x[rank]));
    DeviceTensor dy(stream_, HostTensor(dtype, step.shapes[rank], layout, step.dy[rank]));
    DeviceTensor y(stream_, HostTensor(dtype, step.shapes[rank], layout));
    DeviceTensor dx(stream_, HostTensor(dtype, step.shapes[rank], layout));
    // Bytes and floats take turns.
    const std::vector<uint8_t>& valid = step.valid[rank];
    const std::vector<float> floats(valid.begin(), valid.end());
    const DeviceBytes bytes_on_device(stream_, valid.data(), valid.size());
    const DeviceBytes floats_on_device(stream_, floats.data(), floats.size() * sizeof(float));
    PositionMask mask{bytes_on_device.data(), PositionMask::Type::kByte, step.shapes[rank]};
    if (s % 2 == 1) {
      mask.data = floats_on_device.data();
      mask.type = PositionMask::Type::kF32;
    }
    mask.shape[1] = 1;
    DeviceNumbers weight(stream_, DType::kF64, Numbers(options_.channels));
    DeviceNumbers bias(stream_, DType::kF64, Numbers(options_.channels));

    DeviceBatchNorm::Context context;
    absl::Status status = norm_->Forward(x.tensor(), valid.empty() ? nullptr : &mask, y.tensor(),
                                         &context, stream_.get());
    ASSERT_TRUE(status.ok()) << status;
    if (training_.synchronous) stream_.Synchronize();
    const Tensor dx_tensor = dx.tensor();
    const DeviceBatchNorm::Gradients gradients{weight.values(), bias.values()};
    status = norm_->Backward(context, dy.tensor(), &dx_tensor, &gradients, stream_.get());
    ASSERT_TRUE(status.ok()) << status;
    stream_.Synchronize();
    EXPECT_TRUE(norm_->Check().ok());
    result->y = y.Load();
    result->dx = dx.Load();
    if (options_.affine) {
      result->gradients.weight = weight.Load();
      result->gradients.bias = bias.Load();
    }
    if (options_.track_running_stats) {
      result->running_mean = mean_.Load();
      result->running_var = var_.Load();
      result->batches = batches_.Load();
    }
  }

 private:
  const BatchNormOptions options_;
  const DeviceTraining training_;
  Stream stream_;
  DeviceNumbers weight_, bias_, mean_, var_;
  DeviceCounter batches_;
  std::unique_ptr<DeviceBatchNorm> norm_;
};

}  // namespace

std::vector<std::vector<BatchNormResult>> TrainOnDevice(const Members& members,
                                                        const BatchNormOptions& options,
                                                        DType dtype, Layout layout,
                                                        const std::vector<BatchNormStep>& steps,
                                                        const DeviceTraining& training) {
  std::vector<std::vector<BatchNormResult>> results(steps.size(),
                                                    std::vector<BatchNormResult>(members.count));
  members.run([&](int rank, Reducer* reducer) {
    const auto& host = training.on_the_host;
    if (std::find(host.begin(), host.end(), rank) != host.end()) {
      const auto mine =
          Train({members.count, [&](const Members::Body& body) { body(rank, reducer); }}, options,
                dtype, layout, steps);
      for (size_t s = 0; s < steps.size(); ++s) results[s][rank] = mine[s][rank];
      return;
    }
    auto lane = DeviceReducer::Create(reducer, {.waiting = training.waiting});
    ASSERT_TRUE(lane.ok()) << lane.status();
    Member member(options, training, lane->get());
    for (size_t s = 0; s < steps.size(); ++s) {
      member.Step(s, rank, steps[s], dtype, layout, &results[s][rank]);
      if (::testing::Test::HasFatalFailure()) return;
    }
  });
  return results;
}

}  // namespace syncnorm::testing
