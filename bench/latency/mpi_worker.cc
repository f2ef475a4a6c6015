// bench_latency_mpi: one rank of the Open MPI lanes, started by mpirun with the
// --role argument of the harness.  A program of its own because MPI has to be
// initialised first, and because the other lanes must not link it.

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "bench/latency/role.h"
#include "bench/latency/workload.h"

namespace syncnorm::bench {
namespace {

class MpiWorker : public WorkerEnd {
 public:
  MpiWorker(const Cell& cell, int rank) : workers_(cell.workers), result_(2 * cell.channels + 1) {
    for (int phase = 0; phase < kPhases; ++phase) {
      inputs_[phase] = MakeSums(cell.channels, rank, phase);
    }
  }

  void Prepare(int phase) override {
    std::copy(inputs_[phase].begin(), inputs_[phase].end(), result_.begin());
  }

  absl::Status Exchange() override {
    const int code = MPI_Allreduce(MPI_IN_PLACE, result_.data(), static_cast<int>(result_.size()),
                                   MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    return code == MPI_SUCCESS ? absl::OkStatus() : absl::InternalError("MPI_Allreduce failed");
  }

  absl::Status Check(int phase) override {
    return result_check_.Check(phase, BytesOf(absl::MakeConstSpan(result_)),
                               [&] { return CheckSums(workers_, phase, result_); });
  }

 private:
  const int workers_;
  std::array<std::vector<float>, kPhases> inputs_;
  std::vector<float> result_;
  ResultCheck result_check_;
};

absl::Status RunRank(const char* argument) {
  absl::StatusOr<RoleOptions> options = ParseRoleArgument(argument);
  if (!options.ok()) return options.status();
  int ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &options->rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (ranks != options->cell.workers) {
    return absl::InvalidArgumentError("mpirun -np is not the number of workers");
  }
  MpiWorker end(options->cell, options->rank);
  return RunWorker(*options, &end);
}

}  // namespace
}  // namespace syncnorm::bench

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const absl::Status status = syncnorm::bench::RunRank(argc > 1 ? argv[1] : "");
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    MPI_Abort(MPI_COMM_WORLD, 1);  // the other ranks wait in MPI_Allreduce
  }
  MPI_Finalize();
  return 0;
}
