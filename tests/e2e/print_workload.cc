// Prints moments and their folds as workload.h and Fold make them, for reference_test.py: for each
// operation one line a rank, then one for the fold of all in rank order.
//
//   usage: print_workload SEED CHANNELS WORLD STEPS LAYERS

#include <cinttypes>
#include <cstdio>
#include <cstdlib>

#include "kernels/check.h"
#include "tests/e2e/workload.h"

namespace {

using syncnorm::Direction;
using syncnorm::Moments;
using syncnorm::e2e::Operation;
using syncnorm::e2e::Workload;

void Print(const char* who, const Operation& operation, const Moments& moments) {
  std::printf("%s %" PRIu64 " %d %d %" PRIu64 " %016" PRIx64 "\n", who, operation.step,
              operation.layer, static_cast<int>(operation.direction), moments.count,
              syncnorm::e2e::Digest(moments));
}

void PrintOperation(const Workload& workload, int world, const Operation& operation) {
  Moments total;
  for (int rank = 0; rank < world; ++rank) {
    const Moments moments = MomentsOf(workload, rank, operation);
    Print("part", operation, moments);
    if (rank == 0) {
      total = moments;
    } else {
      SYNCNORM_CHECK(syncnorm::Fold(moments, &total).ok());
    }
  }
  syncnorm::RoundToWire(&total);
  Print("fold", operation, total);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  Workload workload;
  workload.seed = std::strtoull(argv[1], nullptr, 10);
  workload.channels = std::atoi(argv[2]);
  const int world = std::atoi(argv[3]);
  const uint64_t steps = std::strtoull(argv[4], nullptr, 10);
  const int layers = std::atoi(argv[5]);
  for (uint64_t step = 0; step < steps; ++step) {
    for (int layer = 0; layer < layers; ++layer) {
      for (const Direction direction : {Direction::kForward, Direction::kBackward}) {
        PrintOperation(workload, world, {layer, direction, step});
      }
    }
  }
  return 0;
}
