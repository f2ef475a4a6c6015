// Open MPI's MPI_Allreduce of the vector that the Gloo lane adds, in two lanes:
// over TCP, for parity with the others, and through shared memory, which is
// what mpirun would choose on one host.  The ranks are bench_latency_mpi
// (mpi_worker.cc), started by mpirun.

#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/latency/lane.h"
#include "bench/latency/process.h"
#include "bench/latency/workload.h"

namespace syncnorm::bench {
namespace {

class OpenMpiLane : public Lane {
 public:
  OpenMpiLane(std::string name, std::vector<std::string> mca)
      : name_(std::move(name)), mca_(std::move(mca)) {}

  std::string name() const override { return name_; }
  int64_t PayloadBytes(int64_t channels) const override { return SumPayloadBytes(channels); }

  absl::Status Available(const Place& place) const override {
    if (place.name() != "loopback") {
      return absl::FailedPreconditionError("mpirun starts ranks on one host only here");
    }
    if (!OnPath("mpirun")) return absl::FailedPreconditionError("mpirun is not installed");
    if (access(RankProgram().c_str(), X_OK) != 0) {
      return absl::FailedPreconditionError("MPI was not installed at build time");
    }
    return absl::OkStatus();
  }

  std::vector<std::string> CoordinatorCommand(const Cell&, const std::string&,
                                              const std::string&) const override {
    return {};
  }

  std::vector<PlacedCommand> WorkerCommands(const Place&,
                                            const RoleOptions& common) const override {
    // Not bound to cores, like the processes of the other lanes.
    std::vector<std::string> command = {"mpirun",
                                        "--allow-run-as-root",
                                        "--oversubscribe",
                                        "--bind-to",
                                        "none",
                                        "-np",
                                        absl::StrCat(common.cell.workers)};
    command.insert(command.end(), mca_.begin(), mca_.end());
    command.push_back(RankProgram());
    command.push_back(RoleArgument(common));
    return {{/*host=*/1, std::move(command)}};
  }

 private:
  static std::string RankProgram() { return absl::StrCat(OwnDir(), "/bench_latency_mpi"); }

  const std::string name_;
  const std::vector<std::string> mca_;
};

}  // namespace

std::unique_ptr<Lane> MakeOpenMpiTcpLane() {
  return std::make_unique<OpenMpiLane>(
      "openmpi_tcp", std::vector<std::string>{"--mca", "pml", "ob1", "--mca", "btl", "tcp,self",
                                              "--mca", "btl_tcp_if_include", "lo"});
}

std::unique_ptr<Lane> MakeOpenMpiSharedMemoryLane() {
  return std::make_unique<OpenMpiLane>(
      "openmpi_shm", std::vector<std::string>{"--mca", "pml", "ob1", "--mca", "btl", "vader,self"});
}

}  // namespace syncnorm::bench
