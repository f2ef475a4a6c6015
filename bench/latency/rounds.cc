#include "bench/latency/rounds.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "bench/latency/workload.h"
#include "nlohmann/json.hpp"

namespace syncnorm::bench {
namespace {

absl::StatusOr<clockid_t> CpuClockOf(pid_t pid) {
  clockid_t clock;
  if (const int error = clock_getcpuclockid(pid, &clock); error != 0) {
    return absl::ErrnoToStatus(error, absl::StrCat("no CPU clock of process ", pid));
  }
  return clock;
}

absl::StatusOr<double> ReadUs(clockid_t clock) {
  timespec now;
  if (clock_gettime(clock, &now) != 0) return absl::ErrnoToStatus(errno, "clock_gettime");
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

double MonotonicUs() { return *ReadUs(CLOCK_MONOTONIC); }

absl::Status RunOne(int phase, WorkerEnd* end, double* latency_us) {
  end->Prepare(phase);
  const double start_us = MonotonicUs();
  if (absl::Status status = end->Exchange(); !status.ok()) return status;
  *latency_us = MonotonicUs() - start_us;
  return end->Check(phase);
}

}  // namespace

absl::StatusOr<WorkerReport> RunRounds(const RoundPlan& plan, WorkerEnd* end) {
  clockid_t coordinator_clock = CLOCK_PROCESS_CPUTIME_ID;
  if (plan.coordinator_pid != 0) {
    absl::StatusOr<clockid_t> clock = CpuClockOf(plan.coordinator_pid);
    if (!clock.ok()) return clock.status();
    coordinator_clock = *clock;
  }
  for (int i = 0; i < plan.warmup_rounds; ++i) {
    double ignored_us;
    if (absl::Status status = RunOne(i % kPhases, end, &ignored_us); !status.ok()) return status;
  }

  std::vector<double> latencies_us(plan.rounds);
  const double wall_start_us = MonotonicUs();
  const absl::StatusOr<double> own_start_us = ReadUs(CLOCK_PROCESS_CPUTIME_ID);
  const absl::StatusOr<double> coordinator_start_us = ReadUs(coordinator_clock);
  for (int i = 0; i < plan.rounds; ++i) {
    const int phase = (plan.warmup_rounds + i) % kPhases;
    if (absl::Status status = RunOne(phase, end, &latencies_us[i]); !status.ok()) return status;
  }
  const absl::StatusOr<double> coordinator_end_us = ReadUs(coordinator_clock);
  const absl::StatusOr<double> own_end_us = ReadUs(CLOCK_PROCESS_CPUTIME_ID);
  const double wall_end_us = MonotonicUs();
  for (const auto* reading :
       {&own_start_us, &own_end_us, &coordinator_start_us, &coordinator_end_us}) {
    if (!reading->ok()) return reading->status();
  }

  WorkerReport report;
  report.p50_us = Quantile(latencies_us, 0.5);
  report.p99_us = Quantile(std::move(latencies_us), 0.99);
  report.wall_us_per_round = (wall_end_us - wall_start_us) / plan.rounds;
  report.cpu_us_per_round = (*own_end_us - *own_start_us) / plan.rounds;
  if (plan.coordinator_pid != 0) {
    report.coordinator_cpu_us_per_contribution =
        (*coordinator_end_us - *coordinator_start_us) / plan.rounds / plan.workers;
  }
  return report;
}

double Quantile(std::vector<double> values, double q) {
  const double rank = std::ceil(q * static_cast<double>(values.size())) - 1;
  const auto nth = values.begin() + static_cast<std::ptrdiff_t>(std::max(rank, 0.0));
  std::nth_element(values.begin(), nth, values.end());
  return *nth;
}

std::string ReportPath(const std::string& dir, int rank) {
  return absl::StrCat(dir, "/worker.", rank, ".json");
}

absl::Status WriteReport(const std::string& dir, int rank, const WorkerReport& report) {
  std::ofstream file(ReportPath(dir, rank));
  file << nlohmann::json{
      {"p50_us", report.p50_us},
      {"p99_us", report.p99_us},
      {"wall_us_per_round", report.wall_us_per_round},
      {"cpu_us_per_round", report.cpu_us_per_round},
      {"coordinator_cpu_us_per_contribution", report.coordinator_cpu_us_per_contribution}};
  file.close();
  if (!file) return absl::InternalError("cannot write the report of a worker");
  return absl::OkStatus();
}

absl::StatusOr<WorkerReport> ReadReport(const std::string& dir, int rank) {
  std::ifstream file(ReportPath(dir, rank));
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InternalError(absl::StrCat("no report of worker ", rank));
  WorkerReport report;
  report.p50_us = json.value("p50_us", 0.0);
  report.p99_us = json.value("p99_us", 0.0);
  report.wall_us_per_round = json.value("wall_us_per_round", 0.0);
  report.cpu_us_per_round = json.value("cpu_us_per_round", 0.0);
  report.coordinator_cpu_us_per_contribution =
      json.value("coordinator_cpu_us_per_contribution", 0.0);
  return report;
}

}  // namespace syncnorm::bench
