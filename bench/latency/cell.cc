#include "bench/latency/cell.h"

#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/latency/process.h"

namespace syncnorm::bench {
namespace {

constexpr int kCoordinatorHost = 0;

// The coordinator leaves when its workers have, or on SIGTERM; either is fine.
absl::StatusOr<Process> StartCoordinator(const std::vector<std::string>& command,
                                         const Place& place, absl::Time deadline,
                                         RoleOptions* common) {
  const std::string address = place.AddressOf(kCoordinatorHost);
  absl::StatusOr<Process> process =
      Process::Start(place.On(kCoordinatorHost, command), common->dir + "/coordinator.log");
  if (!process.ok()) return process.status();
  absl::StatusOr<std::string> port = WaitForLine(PortPath(common->dir), &*process, deadline);
  if (!port.ok()) return port.status();
  common->coordinator_address = absl::StrCat(address, ":", *port);
  common->coordinator_pid = process->pid();
  return process;
}

absl::StatusOr<Sample> Gather(const std::string& dir, int workers) {
  Sample sample;
  for (int rank = 0; rank < workers; ++rank) {
    absl::StatusOr<WorkerReport> report = ReadReport(dir, rank);
    if (!report.ok()) return report.status();
    sample.client_cpu_us_per_round += report->cpu_us_per_round / workers;
    if (rank != 0) continue;
    sample.p50_us = report->p50_us;
    sample.p99_us = report->p99_us;
    sample.wall_us_per_round = report->wall_us_per_round;
    sample.coordinator_cpu_us_per_contribution = report->coordinator_cpu_us_per_contribution;
  }
  return sample;
}

}  // namespace

absl::StatusOr<Sample> RunCell(const Lane& lane, const Cell& cell, const Place& place,
                               const std::string& dir, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  std::filesystem::create_directories(dir);
  RoleOptions common = {.role = "worker", .lane = lane.name(), .cell = cell, .dir = dir};

  std::optional<Process> coordinator;
  const std::vector<std::string> coordinator_command =
      lane.CoordinatorCommand(cell, place.AddressOf(kCoordinatorHost), dir);
  if (!coordinator_command.empty()) {
    absl::StatusOr<Process> started =
        StartCoordinator(coordinator_command, place, deadline, &common);
    if (!started.ok()) {
      return absl::Status(started.status().code(),
                          absl::StrCat("coordinator: ", started.status().message()));
    }
    coordinator.emplace(*std::move(started));
  }

  std::vector<Process> workers;
  for (const PlacedCommand& placed : lane.WorkerCommands(place, common)) {
    absl::StatusOr<Process> worker =
        Process::Start(place.On(placed.host, placed.command),
                       absl::StrCat(dir, "/workers.", workers.size(), ".log"));
    if (!worker.ok()) return worker.status();
    workers.push_back(*std::move(worker));
  }
  // When one fails the rest would wait for it in vain: the destructors end them.
  const absl::Status status = Process::WaitForAll(&workers, deadline);
  if (!status.ok()) {
    std::string text = absl::StrCat("workers: ", status.message());
    if (coordinator.has_value()) {
      const absl::Status exit = coordinator->Wait(absl::Now());
      absl::StrAppend(&text, "; coordinator: ", exit.ok() ? "exit status 0" : exit.message());
    }
    return absl::Status(status.code(), text);
  }
  return Gather(dir, cell.workers);
}

}  // namespace syncnorm::bench
