// Trains the example's network on one worker's slices of the global batches.
//
// The batches depend on the seed only, not on the number of workers: the r-th of W
// members takes the r-th of W slices of each.  So W workers see what one
// process would, and may be compared with it step by step.
//
// Members that come and go (OnLoss::kShrink).  Before each step is a boundary, at which workers
// that wait are let in, and go on with the step, the parameters and the momenta of the others. Each
// batch is cut for those who are there; a step in which one was lost is made once more by the
// others.  So the result is that of one process all the same.
#pragma once

#include <syncnorm/group.h>
#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "examples/fashion_mnist/dataset.h"
#include "examples/fashion_mnist/network.h"

namespace syncnorm::examples {

struct TrainerOptions {
  int rank = 0;
  int world_size = 1;
  bool elastic = false;  // the group's policy is kShrink
  int64_t steps = 0;
  int64_t global_batch = 0;  // a multiple of world_size
  double learning_rate = 0;  // at its highest: a linear rise, then half a cosine to 0
  uint64_t seed = 0;
  torch::Dtype dtype = torch::kFloat;
  int64_t evaluate_every = 0;  // steps; 0: at the end only
  // To evaluate on, on the way and at the end: the first so many; 0: all.
  int64_t test_images = 0, final_test_images = 0;
  std::string csv;            // step, loss of the global batch, test accuracy; empty: none
  std::string save;           // the network, at the end; empty: never
  std::set<int64_t> save_at;  // and after these steps, at StepPath(save, step)
  absl::Duration slow;        // sleeps before each step, for a worker that is late on purpose
  std::function<bool()> stop = [] { return false; };  // asked between two steps
};

struct TrainerResult {
  double loss = 0;      // mean over the last tenth of the steps, or those this worker was there for
  double accuracy = 0;  // at the end
  double seconds = 0;   // of the steps, without reading data and evaluating
};

// "net.pt", 10 -> "net.step10.pt".
std::string StepPath(const std::string& path, int64_t step);

// `group`: null for one process with whole batches.  Rank 0 evaluates, writes the CSV file and
// prints progress; every rank that has a path saves.  kCancelled: told to stop.
absl::StatusOr<TrainerResult> Train(const TrainerOptions& options, const Dataset& train,
                                    const Dataset& test, Network network, Group* group);

}  // namespace syncnorm::examples
