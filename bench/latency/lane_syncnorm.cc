// The product: a syncnorm-coordinator process as it is installed, and workers
// that hold a Group and reduce, as the forward pass of a float32 batch norm does.

#include <syncnorm/group.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/latency/lane.h"
#include "bench/latency/process.h"
#include "bench/latency/workload.h"

namespace syncnorm::bench {
namespace {

class SyncnormWorker : public WorkerEnd {
 public:
  SyncnormWorker(std::unique_ptr<Group> group, const RoleOptions& options)
      : workers_(options.cell.workers), group_(std::move(group)) {
    for (int phase = 0; phase < kPhases; ++phase) {
      const MomentRows rows = MakeMoments(options.cell.channels, options.rank, phase);
      Moments& moments = inputs_[phase];
      moments = Moments::MeanM2(options.cell.channels, Precision::kF32);
      moments.count = rows.count;
      std::copy(rows.mean.begin(), rows.mean.end(), moments.row(0).begin());
      std::copy(rows.m2.begin(), rows.m2.end(), moments.row(1).begin());
    }
  }

  void Prepare(int phase) override {
    input_ = &inputs_[phase];
    ++key_.step;
  }

  absl::Status Exchange() override {
    absl::StatusOr<Moments> result = group_->ReduceNow(key_, *input_);
    if (!result.ok()) return result.status();
    result_ = *std::move(result);
    return absl::OkStatus();
  }

  absl::Status Check(int phase) override {
    return result_check_.Check(phase, BytesOf(absl::MakeConstSpan(result_.values)), [&] {
      return CheckMoments(workers_, phase, result_.count, std::as_const(result_).row(0),
                          std::as_const(result_).row(1));
    });
  }

 private:
  const int workers_;
  const std::unique_ptr<Group> group_;
  std::array<Moments, kPhases> inputs_;
  const Moments* input_ = nullptr;
  ReduceKey key_ = {.layer = "bench.bn", .direction = Direction::kForward, .dtype = DType::kF32};
  Moments result_;
  ResultCheck result_check_;
};

class SyncnormLane : public Lane {
 public:
  std::string name() const override { return "syncnorm"; }
  int64_t PayloadBytes(int64_t channels) const override { return FoldPayloadBytes(channels); }

  absl::Status Available(const Place&) const override {
    if (access(CoordinatorProgram().c_str(), X_OK) != 0) {
      return absl::FailedPreconditionError("syncnorm-coordinator is not built");
    }
    return absl::OkStatus();
  }

  std::vector<std::string> CoordinatorCommand(const Cell&, const std::string& address,
                                              const std::string& dir) const override {
    // --insecure: the hosts of a netlab are on no network but their own.
    return {CoordinatorProgram(), absl::StrCat("--listen=", address, ":0"), "--insecure",
            absl::StrCat("--port_file=", PortPath(dir))};
  }

  absl::StatusOr<std::unique_ptr<WorkerEnd>> Connect(const RoleOptions& options) const override {
    GroupOptions group_options;
    group_options.address = options.coordinator_address;
    group_options.group = "bench";
    group_options.rank = options.rank;
    group_options.world_size = options.cell.workers;
    absl::StatusOr<std::unique_ptr<Group>> group = Group::Connect(group_options);
    if (!group.ok()) return group.status();
    return std::make_unique<SyncnormWorker>(*std::move(group), options);
  }

 private:
  // In the build tree the two programs are two folders apart.
  static std::string CoordinatorProgram() {
    return absl::StrCat(OwnDir(), "/../../server/syncnorm-coordinator");
  }
};

}  // namespace

std::unique_ptr<Lane> MakeSyncnormLane() { return std::make_unique<SyncnormLane>(); }

}  // namespace syncnorm::bench
