#include "bench/latency/lane.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/latency/process.h"

namespace syncnorm::bench {
namespace {

class MissingLane : public Lane {
 public:
  MissingLane(std::string name, std::string reason)
      : name_(std::move(name)), reason_(std::move(reason)) {}

  std::string name() const override { return name_; }
  int64_t PayloadBytes(int64_t) const override { return 0; }
  absl::Status Available(const Place&) const override {
    return absl::FailedPreconditionError(reason_);
  }
  std::vector<std::string> CoordinatorCommand(const Cell&, const std::string&,
                                              const std::string&) const override {
    return {};
  }

 private:
  const std::string name_;
  const std::string reason_;
};

}  // namespace

std::string PortPath(const std::string& dir) { return absl::StrCat(dir, "/port"); }

std::vector<PlacedCommand> Lane::WorkerCommands(const Place& place,
                                                const RoleOptions& common) const {
  std::vector<PlacedCommand> commands;
  for (int rank = 0; rank < common.cell.workers; ++rank) {
    const int host = rank + 1;
    RoleOptions options = common;
    options.rank = rank;
    options.own_address = place.AddressOf(host);
    commands.push_back({host, {OwnProgram(), RoleArgument(options)}});
  }
  return commands;
}

absl::Status Lane::Coordinate(const RoleOptions&) const {
  return absl::UnimplementedError(absl::StrCat("this program is no coordinator of ", name()));
}

absl::StatusOr<std::unique_ptr<WorkerEnd>> Lane::Connect(const RoleOptions&) const {
  return absl::UnimplementedError(absl::StrCat("this program is no worker of ", name()));
}

const std::vector<std::unique_ptr<Lane>>& AllLanes() {
  static const auto* const lanes = [] {
    auto* all = new std::vector<std::unique_ptr<Lane>>;
    all->push_back(MakeTcpStarLane());
#ifdef SYNCNORM_BENCH_SYNCNORM
    all->push_back(MakeSyncnormLane());
#else
    all->push_back(MakeMissingLane("syncnorm", "built without the syncnorm client"));
#endif
#ifdef SYNCNORM_BENCH_GLOO
    all->push_back(MakeGlooLane());
    all->push_back(MakeGlooBcubeLane());
#else
    all->push_back(MakeMissingLane("gloo", "Gloo was not installed at build time"));
    all->push_back(MakeMissingLane("gloo_bcube", "Gloo was not installed at build time"));
#endif
    all->push_back(MakeOpenMpiTcpLane());
    all->push_back(MakeOpenMpiSharedMemoryLane());
    return all;
  }();
  return *lanes;
}

const Lane* FindLane(const std::string& name) {
  for (const auto& lane : AllLanes()) {
    if (lane->name() == name) return lane.get();
  }
  return nullptr;
}

std::unique_ptr<Lane> MakeMissingLane(std::string name, std::string reason) {
  return std::make_unique<MissingLane>(std::move(name), std::move(reason));
}

}  // namespace syncnorm::bench
