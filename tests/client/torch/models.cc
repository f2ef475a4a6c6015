#include "tests/client/torch/models.h"

#include <syncnorm/torch.h>
#include <torch/torch.h>

#include <sstream>

namespace syncnorm::testing {
namespace {

class TorchNormImpl : public torch::nn::Module {
 public:
  explicit TorchNormImpl(const BatchNormOptions& options) : options_(options) {
    if (options.affine) {
      weight_ = register_parameter("weight", torch::ones({options.channels}));
      bias_ = register_parameter("bias", torch::zeros({options.channels}));
    }
    running_mean_ = register_buffer("running_mean", torch::zeros({options.channels}));
    running_var_ = register_buffer("running_var", torch::ones({options.channels}));
    num_batches_tracked_ = register_buffer("num_batches_tracked", torch::tensor(0, torch::kLong));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    if (is_training()) num_batches_tracked_ += 1;
    return torch::batch_norm(x, weight_, bias_, running_mean_, running_var_, is_training(),
                             *options_.momentum, options_.eps, /*cudnn_enabled=*/false);
  }

 private:
  BatchNormOptions options_;
  torch::Tensor weight_, bias_, running_mean_, running_var_, num_batches_tracked_;
};

BatchNormOptions Options(int64_t channels, bool affine = true, double momentum = 0.1) {
  BatchNormOptions options;
  options.channels = channels;
  options.affine = affine;
  options.momentum = momentum;
  return options;
}

// A model around one norm.
class NormModel : public Model {
 protected:
  NormModel(const NormMaker& norms, const BatchNormOptions& options) : norm_(norms(options)) {}
  void RegisterNorm() { register_module("norm", norm_.ptr()); }
  torch::nn::AnyModule norm_;
};

class BnNetModel : public NormModel {
 public:
  BnNetModel(const NormMaker& norms, bool affine)
      : NormModel(norms, Options(4, affine)),
        first_(torch::nn::LinearOptions(2, 40).bias(false)),
        last_(40, 4) {
    register_module("first", first_);
    RegisterNorm();
    register_module("last", last_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const torch::Tensor y = norm_.forward(first_(x).reshape({-1, 4, 10}));
    return last_(y.reshape({-1, 40})).softmax(1);
  }

 private:
  torch::nn::Linear first_, last_;
};

class OnlyBnModel : public NormModel {
 public:
  OnlyBnModel(const NormMaker& norms, int64_t channels, double momentum)
      : NormModel(norms, Options(channels, true, momentum)) {
    RegisterNorm();
  }
  torch::Tensor forward(const torch::Tensor& x) override { return norm_.forward(x); }
};

class ConvBnLinearModel : public NormModel {
 public:
  explicit ConvBnLinearModel(const NormMaker& norms)
      : NormModel(norms, Options(2)), conv_(2, 2, 3), linear_(28, 2) {
    register_module("conv", conv_);
    RegisterNorm();
    register_module("linear", linear_);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return linear_(norm_.forward(conv_(x)));
  }

 private:
  torch::nn::Conv2d conv_;
  torch::nn::Linear linear_;
};

class ConvBnModel : public NormModel {
 public:
  explicit ConvBnModel(const NormMaker& norms) : NormModel(norms, Options(6)), conv_(3, 6, 3) {
    register_module("conv", conv_);
    RegisterNorm();
  }
  torch::Tensor forward(const torch::Tensor& x) override { return norm_.forward(conv_(x)); }

 private:
  torch::nn::Conv2d conv_;
};

}  // namespace

NormMaker TorchNorm() {
  return [](const BatchNormOptions& options) {
    return torch::nn::AnyModule(std::make_shared<TorchNormImpl>(options));
  };
}

NormMaker SyncNorm(Reducer* group) {
  return [group](const BatchNormOptions& options) {
    return torch::nn::AnyModule(nn::SyncBatchNorm("norm", options, group));
  };
}

ModelMaker BnNet(bool affine) {
  return [affine](const NormMaker& norms) { return std::make_shared<BnNetModel>(norms, affine); };
}

ModelMaker OnlyBn(int64_t channels, double momentum) {
  return [=](const NormMaker& norms) {
    return std::make_shared<OnlyBnModel>(norms, channels, momentum);
  };
}

ModelMaker ConvBnLinear() {
  return [](const NormMaker& norms) { return std::make_shared<ConvBnLinearModel>(norms); };
}

ModelMaker ConvBn() {
  return [](const NormMaker& norms) { return std::make_shared<ConvBnModel>(norms); };
}

std::shared_ptr<Model> SavedAndLoaded(const std::shared_ptr<Model>& model, const ModelMaker& make,
                                      const NormMaker& norms) {
  std::stringstream file;
  torch::save(std::static_pointer_cast<torch::nn::Module>(model), file);
  std::shared_ptr<torch::nn::Module> loaded = make(norms);
  torch::load(loaded, file);
  return std::dynamic_pointer_cast<Model>(loaded);
}

}  // namespace syncnorm::testing
