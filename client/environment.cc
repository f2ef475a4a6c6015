// GroupOptions::FromEnvironment.  A launcher counts only if it tells both rank and world size: a
// stray RANK must not be paired with another launcher's size.
#include <syncnorm/group.h>

#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

namespace syncnorm {
namespace {

// An empty variable is as good as none.
const char* Get(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr || *value == '\0' ? nullptr : value;
}

absl::Status Unreadable(const char* name, const char* value, const char* expected) {
  return absl::InvalidArgumentError(absl::StrCat(name, " is \"", value, "\", expected ", expected));
}

absl::Status ReadInt(const char* name, int* to) {
  const char* const value = Get(name);
  if (value == nullptr || (absl::SimpleAtoi(value, to) && *to >= 0)) return absl::OkStatus();
  return Unreadable(name, value, "a whole number of 0 or more");
}

absl::Status ReadDuration(const char* name, absl::Duration* to) {
  const char* const value = Get(name);
  if (value == nullptr) return absl::OkStatus();
  if (absl::ParseDuration(value, to) && *to > absl::ZeroDuration() &&
      *to < absl::InfiniteDuration()) {
    return absl::OkStatus();
  }
  return Unreadable(name, value, "a duration of more than 0 with its unit, as in \"30s\"");
}

struct Launcher {
  const char* rank;
  const char* world_size;
};
constexpr Launcher kLaunchers[] = {
    {"RANK", "WORLD_SIZE"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"SLURM_PROCID", "SLURM_NTASKS"},
};

// A literal IPv6 address needs brackets before a port.
std::string JoinHostPort(const std::string& host, int port) {
  const bool bare_v6 = absl::StrContains(host, ":") && !absl::StartsWith(host, "[");
  return bare_v6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::Status ReadAddress(std::string* address) {
  if (const char* const given = Get("SYNCNORM_ADDR")) {
    *address = given;
    return absl::OkStatus();
  }
  const char* const host = Get("MASTER_ADDR");
  const char* const port_text = Get("SYNCNORM_PORT");
  if (port_text == nullptr) return absl::OkStatus();
  int port = 0;
  if (!absl::SimpleAtoi(port_text, &port) || port < 1 || port > 65535) {
    return Unreadable("SYNCNORM_PORT", port_text, "a port, 1 to 65535");
  }
  if (host != nullptr) *address = JoinHostPort(host, port);
  return absl::OkStatus();
}

absl::Status ReadRankAndSize(GroupOptions* options) {
  for (const Launcher& launcher : kLaunchers) {
    if (Get(launcher.rank) == nullptr || Get(launcher.world_size) == nullptr) continue;
    if (absl::Status s = ReadInt(launcher.rank, &options->rank); !s.ok()) return s;
    if (absl::Status s = ReadInt(launcher.world_size, &options->world_size); !s.ok()) return s;
    break;
  }
  if (absl::Status s = ReadInt("SYNCNORM_RANK", &options->rank); !s.ok()) return s;
  return ReadInt("SYNCNORM_WORLD_SIZE", &options->world_size);
}

absl::Status Missing(const GroupOptions& options) {
  std::vector<std::string> missing;
  if (options.rank < 0) {
    missing.push_back("the rank (SYNCNORM_RANK, RANK, OMPI_COMM_WORLD_RANK or SLURM_PROCID)");
  }
  if (options.world_size == 0) {
    missing.push_back(
        "the world size (SYNCNORM_WORLD_SIZE, WORLD_SIZE, OMPI_COMM_WORLD_SIZE or SLURM_NTASKS)");
  }
  if (options.address.empty()) {
    missing.push_back("the address (SYNCNORM_ADDR, or MASTER_ADDR and SYNCNORM_PORT)");
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("the environment does not tell ", absl::StrJoin(missing, ", ")));
}

// One of the policy's names.
template <typename Policy>
absl::Status ReadPolicy(const char* name, std::initializer_list<Policy> policies, Policy* to) {
  const char* const value = Get(name);
  if (value == nullptr) return absl::OkStatus();
  std::vector<std::string> names;
  for (const Policy policy : policies) {
    names.emplace_back(Name(policy));
    if (names.back() == value) {
      *to = policy;
      return absl::OkStatus();
    }
  }
  return Unreadable(name, value, absl::StrJoin(names, ", ").c_str());
}

}  // namespace

absl::StatusOr<GroupOptions> GroupOptions::FromEnvironment() {
  absl::StatusOr<GroupOptions> options = ReadEnvironment();
  if (!options.ok()) return options;
  if (absl::Status s = Missing(*options); !s.ok()) return s;
  return options;
}

absl::StatusOr<GroupOptions> GroupOptions::ReadEnvironment() {
  GroupOptions options;
  for (const absl::Status& s :
       {ReadRankAndSize(&options), ReadAddress(&options.address),
        ReadDuration("SYNCNORM_CONNECT_TIMEOUT", &options.connect_timeout),
        ReadDuration("SYNCNORM_ROUND_TIMEOUT", &options.round_timeout),
        ReadPolicy("SYNCNORM_ON_LOSS", {OnLoss::kFail, OnLoss::kShrink, OnLoss::kFinish},
                   &options.on_loss),
        ReadPolicy("SYNCNORM_NON_FINITE",
                   {NonFinite::kFail, NonFinite::kPropagate, NonFinite::kDrop},
                   &options.non_finite)}) {
    if (!s.ok()) return s;
  }
  for (const char* const name : {"SYNCNORM_JOB", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID"}) {
    if (const char* const value = Get(name)) {
      options.job = value;
      break;
    }
  }
  for (const auto& [name, to] : {std::pair("SYNCNORM_GROUP", &options.group),
                                 std::pair("SYNCNORM_TLS_CA", &options.tls.ca_file),
                                 std::pair("SYNCNORM_TLS_CERT", &options.tls.cert_file),
                                 std::pair("SYNCNORM_TLS_KEY", &options.tls.key_file),
                                 std::pair("SYNCNORM_TLS_SERVER_NAME", &options.tls.server_name),
                                 std::pair("SYNCNORM_TOKEN_FILE", &options.token_file)}) {
    if (const char* const value = Get(name)) *to = value;
  }
  return options;
}

}  // namespace syncnorm
