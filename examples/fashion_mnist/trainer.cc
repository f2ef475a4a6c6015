#include "examples/fashion_mnist/trainer.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <numbers>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "examples/fashion_mnist/dataset.h"
#include "examples/fashion_mnist/gradient_sum.h"

namespace syncnorm::examples {
namespace {

// Steps in which the learning rate rises: without them the first steps of a
// network with fresh statistics are the largest ones.
constexpr int64_t kRiseSteps = 20;
constexpr double kMomentum = 0.9;

// The order in which the images are taken: one permutation after the other.
class Batches {
 public:
  Batches(int64_t size, uint64_t seed) : random_(seed), order_(size), next_(size) {
    std::iota(order_.begin(), order_.end(), 0);
  }

  // Indices of the next global batch.
  torch::Tensor Next(int64_t count) {
    if (next_ + count > static_cast<int64_t>(order_.size())) {
      std::shuffle(order_.begin(), order_.end(), random_);
      next_ = 0;
    }
    torch::Tensor batch =
        torch::tensor(torch::ArrayRef<int64_t>(order_.data() + next_, count), torch::kLong);
    next_ += count;
    return batch;
  }

 private:
  std::mt19937_64 random_;
  std::vector<int64_t> order_;
  int64_t next_;
};

double LearningRate(const TrainerOptions& options, int64_t step) {
  const double rise = std::min(1.0, (step + 1.0) / kRiseSteps);
  const double fall = 0.5 * (1 + std::cos(std::numbers::pi * step / options.steps));
  return options.learning_rate * rise * fall;
}

double Accuracy(Network& network, const Dataset& test, int64_t images, torch::Dtype dtype) {
  constexpr int64_t kBatch = 500;
  images = images > 0 ? std::min(images, test.size()) : test.size();
  const torch::NoGradGuard no_grad;
  network->eval();
  int64_t right = 0;
  for (int64_t begin = 0; begin < images; begin += kBatch) {
    const torch::Tensor indices = torch::arange(begin, std::min(begin + kBatch, images));
    const torch::Tensor answers = network->forward(test.Inputs(indices, dtype)).argmax(1);
    right += answers.eq(test.labels.index_select(0, indices)).sum().item<int64_t>();
  }
  network->train();
  return static_cast<double>(right) / images;
}

// Sums one number over the group; it is on its way while backward runs.
MomentsFuture SumOf(double value, int64_t step, Reducer* group) {
  Moments moments = Moments::Sums(1, 1, Precision::kF64);
  moments.values[0] = value;
  ReduceKey key;
  key.layer = "loss";
  key.step = step;
  return group->Reduce(key, moments);
}

}  // namespace

std::string StepPath(const std::string& path, int64_t step) {
  const size_t dot = std::min(path.rfind('.'), path.size());
  return absl::StrCat(path.substr(0, dot), ".step", step, path.substr(dot));
}

absl::StatusOr<TrainerResult> Train(const TrainerOptions& options, Network network,
                                    Reducer* group) {
  const auto train = LoadFashionMnist(options.data, "train");
  if (!train.ok()) return train.status();
  const auto test = LoadFashionMnist(options.data, "t10k");
  if (!test.ok()) return test.status();
  const bool first = options.rank == 0;
  std::ofstream csv;
  if (first && !options.csv.empty()) {
    csv.open(options.csv);
    csv << "step,loss,test_accuracy\n";
  }

  network->to(options.dtype);
  network->train();
  torch::optim::SGD optimizer(network->parameters(),
                              torch::optim::SGDOptions(options.learning_rate).momentum(kMomentum));
  std::optional<GradientSum> gradients;
  if (group != nullptr) gradients.emplace(network->parameters(), group);
  Batches batches(train->size(), options.seed);
  const int64_t local_batch = options.global_batch / options.world_size;

  TrainerResult result;
  int64_t losses = 0;
  for (int64_t step = 0; step < options.steps; ++step) {
    const absl::Time start = absl::Now();
    const torch::Tensor indices =
        batches.Next(options.global_batch).narrow(0, options.rank * local_batch, local_batch);
    optimizer.param_groups()[0].options().set_lr(LearningRate(options, step));
    optimizer.zero_grad();
    // This slice's share of the global batch's mean loss.
    const torch::Tensor share =
        torch::nn::functional::cross_entropy(
            network->forward(train->Inputs(indices, options.dtype)),
            train->labels.index_select(0, indices),
            torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum)) /
        options.global_batch;
    double loss = share.item<double>();
    MomentsFuture sum;
    if (group != nullptr) sum = SumOf(loss, step, group);
    share.backward();
    if (group != nullptr) {
      const absl::Status status = gradients->Finish();
      if (!status.ok()) return status;
      const auto total = sum.Wait();
      if (!total.ok()) return total.status();
      loss = total->values[0];
    }
    optimizer.step();
    result.seconds += absl::ToDoubleSeconds(absl::Now() - start);

    const int64_t done = step + 1;
    if (done > options.steps - std::max<int64_t>(1, options.steps / 10)) {
      result.loss += loss;
      ++losses;
    }
    if (!options.save.empty() && options.save_at.count(done) != 0) {
      torch::save(network, StepPath(options.save, done));
    }
    if (!first) continue;
    const bool last = done == options.steps;
    const bool evaluate =
        last || (options.evaluate_every > 0 && done % options.evaluate_every == 0);
    if (evaluate) {
      result.accuracy = Accuracy(
          network, *test, last ? options.final_test_images : options.test_images, options.dtype);
    }
    if (csv.is_open()) {
      csv << done << "," << absl::StrFormat("%.9g", loss) << ","
          << (evaluate ? absl::StrCat(result.accuracy) : "") << "\n";
    }
    if (evaluate || done % 10 == 0) {
      std::cout << absl::StrFormat("step %d of %d, loss %.4f", done, options.steps, loss)
                << (evaluate ? absl::StrFormat(", test accuracy %.4f", result.accuracy) : "")
                << std::endl;
    }
  }
  result.loss /= std::max<int64_t>(1, losses);
  if (!options.save.empty()) torch::save(network, options.save);
  return result;
}

}  // namespace syncnorm::examples
