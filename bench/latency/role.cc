#include "bench/latency/role.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

namespace syncnorm::bench {
namespace {

constexpr char kPrefix[] = "--role=";

}  // namespace

std::string RoleArgument(const RoleOptions& options) {
  const nlohmann::json json = {{"role", options.role},
                               {"lane", options.lane},
                               {"workers", options.cell.workers},
                               {"channels", options.cell.channels},
                               {"warmup_rounds", options.cell.warmup_rounds},
                               {"rounds", options.cell.rounds},
                               {"rank", options.rank},
                               {"own_address", options.own_address},
                               {"coordinator_address", options.coordinator_address},
                               {"coordinator_pid", options.coordinator_pid},
                               {"dir", options.dir}};
  return absl::StrCat(kPrefix, json.dump());
}

absl::StatusOr<RoleOptions> ParseRoleArgument(std::string_view argument) {
  absl::string_view text(argument.data(), argument.size());
  if (!absl::ConsumePrefix(&text, kPrefix)) return absl::InvalidArgumentError("not a role");
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("not a role");
  RoleOptions options;
  options.role = json.value("role", "");
  options.lane = json.value("lane", "");
  options.cell.workers = json.value("workers", 0);
  options.cell.channels = json.value("channels", int64_t{0});
  options.cell.warmup_rounds = json.value("warmup_rounds", 0);
  options.cell.rounds = json.value("rounds", 0);
  options.rank = json.value("rank", 0);
  options.own_address = json.value("own_address", "");
  options.coordinator_address = json.value("coordinator_address", "");
  options.coordinator_pid = json.value("coordinator_pid", 0);
  options.dir = json.value("dir", "");
  return options;
}

absl::Status RunWorker(const RoleOptions& options, WorkerEnd* end) {
  const RoundPlan plan = {.workers = options.cell.workers,
                          .warmup_rounds = options.cell.warmup_rounds,
                          .rounds = options.cell.rounds,
                          .coordinator_pid = options.rank == 0 ? options.coordinator_pid : 0};
  absl::StatusOr<WorkerReport> report = RunRounds(plan, end);
  if (!report.ok()) return report.status();
  return WriteReport(options.dir, options.rank, *report);
}

}  // namespace syncnorm::bench
