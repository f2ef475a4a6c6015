// Trains a small network on Fashion-MNIST in one of three ways:
//
//   --mode=sync    one of several workers; batch norms synchronised by syncnorm
//   --mode=local   the same, but with PyTorch's batch norms, which see their worker's slice only
//   --mode=whole   one process with whole batches and PyTorch's batch norms
//
// All start from the same parameters and see the same batches, and the
// workers' gradients are summed exactly, so "sync" and "whole" differ by rounding
// alone.  --compare tells how far two saved networks are apart.

#include <syncnorm/group.h>
#include <torch/torch.h>

#include <csignal>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "examples/fashion_mnist/compare.h"
#include "examples/fashion_mnist/dataset.h"
#include "examples/fashion_mnist/network.h"
#include "examples/fashion_mnist/trainer.h"

ABSL_FLAG(std::string, mode, "sync", "sync, local or whole");
ABSL_FLAG(int, rank, -1,
          "Rank of this worker; -1: from the environment (SYNCNORM_RANK, RANK, ...)");
ABSL_FLAG(int, world, 0, "Number of workers; 0: from the environment");
ABSL_FLAG(std::string, address, "", "Coordinator, host:port; empty: from the environment");
ABSL_FLAG(std::string, data, "/usr/share/datasets/fashion-mnist", "Folder of the data set");
ABSL_FLAG(int64_t, steps, 800, "Steps to train");
ABSL_FLAG(int64_t, batch, 8, "Images in a global batch; a multiple of the number of workers");
ABSL_FLAG(double, lr, 0.02, "Highest learning rate");
ABSL_FLAG(uint64_t, seed, 1, "Of the parameters and of the batches; the same on every worker");
ABSL_FLAG(std::string, dtype, "float32", "float32 or float64");
ABSL_FLAG(int64_t, eval_every, 100, "Steps between evaluations; 0: at the end only");
ABSL_FLAG(int64_t, test_images, 2000, "Test images to evaluate on along the way; 0: all 10,000");
ABSL_FLAG(int64_t, final_test_images, 0, "And at the end");
ABSL_FLAG(std::string, csv, "", "File for step,loss,test_accuracy (rank 0)");
ABSL_FLAG(std::string, save, "",
          "File for the trained network (every rank that gives one); {rank} stands for the rank");
ABSL_FLAG(std::vector<std::string>, save_at, {}, "Steps after which to save, too: FILE.stepN");
ABSL_FLAG(int, threads, 1, "Threads of LibTorch");
ABSL_FLAG(int, slow_rank, -1, "Rank that is late on purpose, to be found by who waits for it");
ABSL_FLAG(absl::Duration, slow, absl::Milliseconds(50), "What --slow_rank sleeps at each step");
ABSL_FLAG(std::vector<std::string>, compare, {},
          "Saved networks, two or more: print the largest relative difference of each to the last, "
          "a line each, and exit");

namespace syncnorm::examples {
namespace {

// SIGTERM ends the worker between two steps, so that it leaves in good order; before the first one
// at once.  Without a handler a container's first process would not hear it.
volatile std::sig_atomic_t training = 0;
volatile std::sig_atomic_t terminated = 0;
constexpr int kTerminated = 128 + SIGTERM;

void Terminate(int) {
  if (training == 0) std::_Exit(kTerminated);
  terminated = 1;
}

absl::StatusOr<GroupOptions> OptionsOfGroup() {
  auto options = GroupOptions::ReadEnvironment();
  if (!options.ok()) return options.status();
  if (absl::GetFlag(FLAGS_rank) >= 0) options->rank = absl::GetFlag(FLAGS_rank);
  if (absl::GetFlag(FLAGS_world) > 0) options->world_size = absl::GetFlag(FLAGS_world);
  if (!absl::GetFlag(FLAGS_address).empty()) options->address = absl::GetFlag(FLAGS_address);
  return options;
}

absl::StatusOr<TrainerOptions> OptionsFromFlags() {
  TrainerOptions options;
  options.steps = absl::GetFlag(FLAGS_steps);
  options.global_batch = absl::GetFlag(FLAGS_batch);
  options.learning_rate = absl::GetFlag(FLAGS_lr);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.evaluate_every = absl::GetFlag(FLAGS_eval_every);
  options.test_images = absl::GetFlag(FLAGS_test_images);
  options.final_test_images = absl::GetFlag(FLAGS_final_test_images);
  options.csv = absl::GetFlag(FLAGS_csv);
  options.save = absl::GetFlag(FLAGS_save);
  const std::string dtype = absl::GetFlag(FLAGS_dtype);
  if (dtype != "float32" && dtype != "float64") {
    return absl::InvalidArgumentError(absl::StrCat("--dtype=", dtype, ": float32 or float64"));
  }
  options.dtype = dtype == "float64" ? torch::kDouble : torch::kFloat;
  for (const std::string& text : absl::GetFlag(FLAGS_save_at)) {
    int64_t step = 0;
    if (!absl::SimpleAtoi(text, &step)) {
      return absl::InvalidArgumentError(absl::StrCat("--save_at: ", text, " is not a step"));
    }
    options.save_at.insert(step);
  }
  return options;
}

absl::Status RunTraining() {
  auto options = OptionsFromFlags();
  if (!options.ok()) return options.status();
  const std::string mode = absl::GetFlag(FLAGS_mode);
  if (mode != "sync" && mode != "local" && mode != "whole") {
    return absl::InvalidArgumentError(absl::StrCat("--mode=", mode, ": sync, local or whole"));
  }
  torch::set_num_threads(absl::GetFlag(FLAGS_threads));
  // Before the group: the others wait for a worker that was let in until its first step.
  const std::string data = absl::GetFlag(FLAGS_data);
  const auto train = LoadFashionMnist(data, "train");
  if (!train.ok()) return train.status();
  const auto test = LoadFashionMnist(data, "t10k");
  if (!test.ok()) return test.status();
  std::unique_ptr<Group> group;  // outlives the network
  if (mode != "whole") {
    auto of_group = OptionsOfGroup();
    if (!of_group.ok()) return of_group.status();
    options->elastic = of_group->on_loss == OnLoss::kShrink;
    auto connected = Group::Connect(*std::move(of_group));
    if (!connected.ok()) return connected.status();
    group = *std::move(connected);
    options->rank = group->rank();
    options->world_size = group->world_size();
  }
  if (options->global_batch <= 0 || options->global_batch % options->world_size != 0) {
    return absl::InvalidArgumentError(absl::StrCat("--batch=", options->global_batch,
                                                   ": not a multiple of ", options->world_size));
  }
  options->save = absl::StrReplaceAll(options->save, {{"{rank}", absl::StrCat(options->rank)}});
  torch::manual_seed(options->seed);
  Network network(mode == "sync" ? SyncNorms(group.get()) : TorchNorms());
  if (options->rank == absl::GetFlag(FLAGS_slow_rank)) options->slow = absl::GetFlag(FLAGS_slow);
  options->stop = [] { return terminated != 0; };
  training = 1;
  const auto result = Train(*options, *train, *test, network, group.get());
  if (!result.ok()) return result.status();
  if (options->rank == 0) {
    std::cout << absl::StrFormat("result: loss %.6f, test accuracy %.4f, seconds %.2f\n",
                                 result->loss, result->accuracy, result->seconds);
  }
  return group == nullptr ? absl::OkStatus() : group->Leave();
}

absl::Status RunCompare(const std::vector<std::string>& files) {
  if (files.size() < 2) return absl::InvalidArgumentError("--compare takes two files or more");
  for (size_t i = 0; i + 1 < files.size(); ++i) {
    const Difference difference = Compare(files[i], files.back());
    std::cout << absl::StrFormat("largest relative difference %.3e in %s\n", difference.largest,
                                 difference.tensor);
  }
  return absl::OkStatus();
}

int Main() {
  std::signal(SIGTERM, &Terminate);
  try {
    const std::vector<std::string> compare = absl::GetFlag(FLAGS_compare);
    const absl::Status status = compare.empty() ? RunTraining() : RunCompare(compare);
    if (status.ok()) return 0;
    std::cerr << status.ToString(absl::StatusToStringMode::kWithNoExtraData) << std::endl;
    if (absl::IsCancelled(status)) return kTerminated;
  } catch (const std::exception& error) {  // LibTorch reports by throwing
    std::cerr << error.what() << std::endl;
  }
  return 1;
}

}  // namespace
}  // namespace syncnorm::examples

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("Trains a small network on Fashion-MNIST; see --help.");
  absl::ParseCommandLine(argc, argv);
  return syncnorm::examples::Main();
}
