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
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "examples/fashion_mnist/gradient_sum.h"
#include "examples/fashion_mnist/hand_over.h"

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

class Training {
 public:
  Training(const TrainerOptions& options, const Dataset& train, const Dataset& test,
           Network network, Group* group);

  // Goes where the others are, if this worker was let into a running group.
  absl::Status Begin();
  absl::StatusOr<TrainerResult> Run();

 private:
  // Lets those in that wait, and takes this worker's place among those who are there.
  absl::Status Meet();
  // Gradients and loss of the batch, of all members.  False: a member was lost on the way, and with
  // it its slice.
  absl::StatusOr<bool> Gradients(const torch::Tensor& batch);
  void AfterStep();
  void SayWhoIsThere(absl::string_view what);

  const TrainerOptions options_;
  const Dataset& train_;
  const Dataset& test_;
  Network network_;
  Group* const group_;
  torch::optim::SGD optimizer_;
  std::optional<GradientSum> gradients_;
  Batches batches_;
  std::ofstream csv_;
  int64_t step_ = 0;    // the next one
  bool met_ = false;    // at the boundary before it
  uint64_t epoch_ = 0;  // as last seen
  // This worker's place among the members, in the order of their ranks.
  int64_t place_, members_;
  double loss_ = 0;  // of the last batch, of all members
  TrainerResult result_;
  int64_t losses_ = 0;
};

Training::Training(const TrainerOptions& options, const Dataset& train, const Dataset& test,
                   Network network, Group* group)
    : options_(options),
      train_(train),
      test_(test),
      network_(std::move(network)),
      group_(group),
      optimizer_(network_->parameters(),
                 torch::optim::SGDOptions(options.learning_rate).momentum(kMomentum)),
      batches_(train_.size(), options.seed),
      place_(options.rank),
      members_(options.world_size) {
  if (group_ != nullptr) gradients_.emplace(network_->parameters(), group_);
}

absl::Status Training::Begin() {
  if (options_.elastic) {
    if (!group_->handed_over().empty()) {
      const auto step = TakeOver(group_->handed_over(), network_, optimizer_);
      if (!step.ok()) return step.status();
      step_ = *step;
      met_ = true;
      for (int64_t i = 0; i < step_; ++i) batches_.Next(options_.global_batch);
    }
    SayWhoIsThere(absl::StrCat("joined before step ", step_ + 1));
  }
  if (options_.rank == 0 && !options_.csv.empty()) {
    csv_.open(options_.csv, step_ == 0 ? std::ios::trunc : std::ios::app);
    if (step_ == 0) csv_ << "step,loss,test_accuracy\n";
  }
  return absl::OkStatus();
}

absl::StatusOr<TrainerResult> Training::Run() {
  for (; step_ < options_.steps; ++step_) {
    if (options_.stop()) {
      return absl::CancelledError(
          absl::StrCat("told to stop after step ", step_, " of ", options_.steps));
    }
    const absl::Time start = absl::Now();
    const torch::Tensor batch = batches_.Next(options_.global_batch);
    optimizer_.param_groups()[0].options().set_lr(LearningRate(options_, step_));
    for (bool complete = false; !complete;) {
      if (absl::Status status = Meet(); !status.ok()) return status;
      const auto gradients = Gradients(batch);
      if (!gradients.ok()) return gradients.status();
      complete = *gradients;
    }
    optimizer_.step();
    result_.seconds += absl::ToDoubleSeconds(absl::Now() - start);
    AfterStep();
  }
  result_.loss /= std::max<int64_t>(1, losses_);
  if (!options_.save.empty()) torch::save(network_, options_.save);
  return result_;
}

absl::Status Training::Meet() {
  // One that is let in has been at the boundary before its first step.
  if (!options_.elastic || std::exchange(met_, false)) return absl::OkStatus();
  const auto boundary =
      group_->AtBoundary([this] { return HandOver(step_, network_, optimizer_); });
  if (!boundary.ok()) return boundary.status();
  if (boundary->epoch != epoch_) SayWhoIsThere(absl::StrCat("before step ", step_ + 1));
  return absl::OkStatus();
}

void Training::SayWhoIsThere(absl::string_view what) {
  const std::vector<int> members = group_->members();
  epoch_ = group_->epoch();
  members_ = members.size();
  place_ = std::find(members.begin(), members.end(), options_.rank) - members.begin();
  std::cout << absl::StrFormat("rank %d %s: epoch %d, members %s", options_.rank, what, epoch_,
                               absl::StrJoin(members, ","))
            << std::endl;
}

absl::StatusOr<bool> Training::Gradients(const torch::Tensor& batch) {
  if (options_.slow > absl::ZeroDuration()) absl::SleepFor(options_.slow);
  // Of the parameters nothing changes before the optimizer's step; the running statistics do.
  std::vector<torch::Tensor> statistics;
  if (options_.elastic) {
    for (const torch::Tensor& buffer : network_->buffers()) statistics.push_back(buffer.clone());
  }
  const int64_t begin = options_.global_batch * place_ / members_;
  const int64_t end = options_.global_batch * (place_ + 1) / members_;
  const torch::Tensor slice = batch.narrow(0, begin, end - begin);
  optimizer_.zero_grad();
  if (group_ != nullptr) gradients_->Begin(step_, end - begin);
  // This slice's share of the global batch's mean loss.
  const torch::Tensor share =
      torch::nn::functional::cross_entropy(
          network_->forward(train_.Inputs(slice, options_.dtype)),
          train_.labels.index_select(0, slice),
          torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum)) /
      options_.global_batch;
  loss_ = share.item<double>();
  MomentsFuture sum;
  if (group_ != nullptr) sum = SumOf(loss_, step_, group_);
  share.backward();
  if (group_ == nullptr) return true;
  const auto images = gradients_->Finish();
  if (!images.ok()) return images.status();
  const auto total = sum.Wait();
  if (!total.ok()) return total.status();
  loss_ = total->values[0];
  if (*images == static_cast<uint64_t>(options_.global_batch)) return true;
  std::cout << absl::StrFormat("rank %d: step %d with %d of %d images is made again", options_.rank,
                               step_ + 1, *images, options_.global_batch)
            << std::endl;
  const torch::NoGradGuard no_grad;
  const std::vector<torch::Tensor> buffers = network_->buffers();
  for (size_t i = 0; i < statistics.size(); ++i) buffers[i].copy_(statistics[i]);
  return false;
}

void Training::AfterStep() {
  const int64_t done = step_ + 1;
  if (done > options_.steps - std::max<int64_t>(1, options_.steps / 10)) {
    result_.loss += loss_;
    ++losses_;
  }
  if (!options_.save.empty() && options_.save_at.count(done) != 0) {
    torch::save(network_, StepPath(options_.save, done));
  }
  if (options_.rank != 0) return;
  const bool last = done == options_.steps;
  const bool evaluate =
      last || (options_.evaluate_every > 0 && done % options_.evaluate_every == 0);
  if (evaluate) {
    result_.accuracy = Accuracy(
        network_, test_, last ? options_.final_test_images : options_.test_images, options_.dtype);
  }
  if (csv_.is_open()) {
    csv_ << done << "," << absl::StrFormat("%.9g", loss_) << ","
         << (evaluate ? absl::StrCat(result_.accuracy) : "") << "\n";
  }
  if (evaluate || done % 10 == 0) {
    std::cout << absl::StrFormat("step %d of %d, loss %.4f", done, options_.steps, loss_)
              << (evaluate ? absl::StrFormat(", test accuracy %.4f", result_.accuracy) : "")
              << std::endl;
  }
}

}  // namespace

std::string StepPath(const std::string& path, int64_t step) {
  const size_t dot = std::min(path.rfind('.'), path.size());
  return absl::StrCat(path.substr(0, dot), ".step", step, path.substr(dot));
}

absl::StatusOr<TrainerResult> Train(const TrainerOptions& options, const Dataset& train,
                                    const Dataset& test, Network network, Group* group) {
  network->to(options.dtype);
  network->train();
  Training training(options, train, test, std::move(network), group);
  if (absl::Status status = training.Begin(); !status.ok()) return status;
  return training.Run();
}

}  // namespace syncnorm::examples
