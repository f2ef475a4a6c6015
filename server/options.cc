#include "server/options.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <map>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/wire.h"

namespace {

using syncnorm::server::Limits;
using syncnorm::server::Timeouts;

constexpr char kUsage[] =
    "Reduces the normalisation statistics of groups of workers.\n\n"
    "  syncnorm-coordinator                              on 127.0.0.1:7070\n"
    "  syncnorm-coordinator --listen=127.0.0.1:0 --port_file=/tmp/port\n"
    "  syncnorm-coordinator --listen=unix:/run/syncnorm.sock\n\n"
    "SIGTERM and SIGINT drain: rounds in flight finish, workers are told, exit status 0; a second\n"
    "signal ends it at once.  SIGUSR1 reports who waited for whom.  Limits answer with "
    "RESOURCE_EXHAUSTED and never stop the process.";

}  // namespace

ABSL_FLAG(std::string, listen, "127.0.0.1:7070",
          "HOST:PORT or unix:PATH to listen on; port 0 picks a free one");
ABSL_FLAG(bool, insecure, false,
          "listen in plaintext on an address that other machines can reach: whoever reaches it can "
          "read and change the statistics");
ABSL_FLAG(std::string, port_file, "", "file to write the port to, atomically, once listening");
ABSL_FLAG(
    std::string, dump_dir, "",
    "directory for a JSON report on a group when something failed in it, at most one in 10 s, "
    "and on SIGUSR1 on all groups; empty: no files, and SIGUSR1 writes to stderr");
ABSL_FLAG(std::string, log_level, "info", "debug, info, warn, error or off; the log is on stderr");

ABSL_FLAG(absl::Duration, round_timeout, Timeouts().round,
          "from a round's first contribution to its failure, where the workers say nothing");
ABSL_FLAG(absl::Duration, join_timeout, Timeouts().join,
          "from a group's first join to its failure, where the workers say nothing");
ABSL_FLAG(absl::Duration, reconnect_grace, Timeouts().reconnect,
          "from the end of a member's connection to its loss, for it to come back");
ABSL_FLAG(absl::Duration, resume_timeout, Timeouts().resume,
          "after a restart, from the first member that resumes a run to the last");
ABSL_FLAG(absl::Duration, hello_timeout, Timeouts().hello, "from a stream's opening to its Join");
ABSL_FLAG(absl::Duration, drain_grace, absl::Seconds(10),
          "for rounds in flight to finish after SIGTERM");

ABSL_FLAG(absl::Duration, straggler_warning, Timeouts().straggler_warning,
          "from a round's first contribution to a line in the log that names the missing workers; "
          "inf: none");

ABSL_FLAG(uint32_t, max_groups, Limits().groups, "groups at once");
ABSL_FLAG(uint32_t, max_members, Limits().members, "members of one group, at most 4096");
ABSL_FLAG(uint32_t, max_streams, Limits().streams, "streams at once, over all groups");
ABSL_FLAG(uint64_t, max_values, Limits().values, "rows x channels of one contribution");
ABSL_FLAG(uint32_t, max_layer_name_bytes, Limits().layer_name_bytes, "bytes of a layer's name");
ABSL_FLAG(uint32_t, max_layers, Limits().layers,
          "layers per group, directions apart, whose waits are told apart in reports");
ABSL_FLAG(uint32_t, flight_rounds, Limits().flight_rounds,
          "ended rounds kept per group for reports");
ABSL_FLAG(uint32_t, kept_rounds, Limits().kept_rounds,
          "ended rounds kept per group to answer repeats");
ABSL_FLAG(uint64_t, max_kept_bytes, Limits().kept_bytes,
          "bytes of those, per group; two rounds are always kept");
ABSL_FLAG(uint32_t, max_open_rounds, Limits().open_rounds, "open rounds per group");
ABSL_FLAG(uint64_t, max_open_bytes, Limits().open_bytes,
          "bytes of values in open rounds, per group");
ABSL_FLAG(uint32_t, max_queued_messages, Limits().queued_messages,
          "messages that wait for one worker to read before it is cut off");
ABSL_FLAG(uint64_t, max_queued_bytes, Limits().queued_bytes, "bytes of those");

namespace syncnorm::server {
namespace {

absl::Status Bad(const char* flag, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", why));
}

absl::Status CheckPositive(const char* flag, absl::Duration value) {
  if (value > absl::ZeroDuration()) return absl::OkStatus();
  return Bad(flag, absl::StrCat(absl::FormatDuration(value), " is not above 0"));
}

absl::Status CheckRange(const char* flag, uint64_t value, uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return Bad(flag, absl::StrCat(value, " is not within ", least, " to ", most));
}

// The first that is not OK.
absl::Status First(std::initializer_list<absl::Status> statuses) {
  for (const absl::Status& status : statuses) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Check(const Options& options) {
  const Limits& limits = options.server.settings.limits;
  const Timeouts& timeouts = options.server.settings.timeouts;
  constexpr uint32_t kAny = std::numeric_limits<int32_t>::max();
  // gRPC's message sizes are ints: 2^27 values are 1 GiB.
  constexpr uint64_t kMaxValues = uint64_t{1} << 27;
  constexpr uint64_t kMaxBytes = uint64_t{1} << 40;
  return First({
      CheckPositive("round_timeout", timeouts.round),
      CheckPositive("join_timeout", timeouts.join),
      CheckPositive("hello_timeout", timeouts.hello),
      timeouts.reconnect >= absl::ZeroDuration() ? absl::OkStatus()
                                                 : Bad("reconnect_grace", "is below 0"),
      CheckPositive("resume_timeout", timeouts.resume),
      CheckPositive("straggler_warning", timeouts.straggler_warning),
      options.drain_grace >= absl::ZeroDuration() ? absl::OkStatus()
                                                  : Bad("drain_grace", "is below 0"),
      CheckRange("max_groups", limits.groups, 1, kAny),
      CheckRange("max_members", limits.members, 1, wire::kMaxWorldSize),
      CheckRange("max_streams", limits.streams, 1, kAny - 1),
      CheckRange("max_values", limits.values, 1, kMaxValues),
      CheckRange("max_layer_name_bytes", limits.layer_name_bytes, 1, 64 << 10),
      CheckRange("max_layers", limits.layers, 1, kAny),
      CheckRange("flight_rounds", limits.flight_rounds, 1, kAny),
      CheckRange("kept_rounds", limits.kept_rounds, kMinKeptRounds, kAny),
      CheckRange("max_kept_bytes", limits.kept_bytes, 1, kMaxBytes),
      CheckRange("max_open_rounds", limits.open_rounds, 1, kAny),
      CheckRange("max_open_bytes", limits.open_bytes, 1, kMaxBytes),
      CheckRange("max_queued_messages", limits.queued_messages, 1, kAny),
      CheckRange("max_queued_bytes", limits.queued_bytes, 1, kMaxBytes),
  });
}

std::string Version() {
  return absl::StrCat("syncnorm-coordinator ", SYNCNORM_VERSION, ", protocol ",
                      wire::kProtocolMajor, ".", wire::kProtocolMinor, "\n");
}

bool Ours(absl::string_view file) { return absl::EndsWith(file, "server/options.cc"); }

// Abseil's own --help ends with status 1, and names source files.
bool WantsHelp(int argc, char** argv) {
  return std::any_of(argv + 1, argv + argc, [](const char* argument) {
    const absl::string_view text = argument;
    return text == "--help" || text == "-help" || text == "-h";
  });
}

void PrintHelp() {
  std::map<std::string, const absl::CommandLineFlag*> flags;  // by name
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (Ours(flag->Filename())) flags.emplace(name, flag);
  }
  std::string text = absl::StrCat(kUsage, "\n\nFlags:\n");
  for (const auto& [name, flag] : flags) {
    absl::StrAppend(&text, "  --", name, "  (", flag->DefaultValue(), ")\n      ", flag->Help(),
                    "\n");
  }
  std::fputs(text.c_str(), stdout);
}

void SetUpFlags() {
  absl::SetProgramUsageMessage(kUsage);
  absl::FlagsUsageConfig config;
  config.version_string = &Version;
  absl::SetFlagsUsageConfig(config);
}

}  // namespace

absl::StatusOr<Options> ParseOptions(int argc, char** argv) {
  if (WantsHelp(argc, argv)) {
    PrintHelp();
    std::exit(0);
  }
  SetUpFlags();
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument \"", rest[1], "\"; see --help"));
  }
  Options options;
  absl::StatusOr<ListenAddress> listen = ListenAddress::Parse(absl::GetFlag(FLAGS_listen));
  if (!listen.ok()) return Bad("listen", std::string(listen.status().message()));
  if (!listen->local() && !absl::GetFlag(FLAGS_insecure)) {
    return Bad("listen", absl::StrCat(listen->With(listen->port),
                                      " can be reached by other machines, in plaintext; give "
                                      "--insecure if that is meant"));
  }
  options.server.listen = *std::move(listen);
  if (absl::Status status = ParseLogLevel(absl::GetFlag(FLAGS_log_level), &options.log_level);
      !status.ok()) {
    return Bad("log_level", std::string(status.message()));
  }
  options.server.dump_dir = absl::GetFlag(FLAGS_dump_dir);
  options.port_file = absl::GetFlag(FLAGS_port_file);
  options.drain_grace = absl::GetFlag(FLAGS_drain_grace);

  Timeouts& timeouts = options.server.settings.timeouts;
  timeouts.round = absl::GetFlag(FLAGS_round_timeout);
  timeouts.join = absl::GetFlag(FLAGS_join_timeout);
  timeouts.hello = absl::GetFlag(FLAGS_hello_timeout);
  timeouts.reconnect = absl::GetFlag(FLAGS_reconnect_grace);
  timeouts.resume = absl::GetFlag(FLAGS_resume_timeout);
  timeouts.straggler_warning = absl::GetFlag(FLAGS_straggler_warning);
  Limits& limits = options.server.settings.limits;
  limits.groups = absl::GetFlag(FLAGS_max_groups);
  limits.members = absl::GetFlag(FLAGS_max_members);
  limits.streams = absl::GetFlag(FLAGS_max_streams);
  limits.values = absl::GetFlag(FLAGS_max_values);
  limits.layer_name_bytes = absl::GetFlag(FLAGS_max_layer_name_bytes);
  limits.layers = absl::GetFlag(FLAGS_max_layers);
  limits.flight_rounds = absl::GetFlag(FLAGS_flight_rounds);
  limits.kept_rounds = absl::GetFlag(FLAGS_kept_rounds);
  limits.kept_bytes = absl::GetFlag(FLAGS_max_kept_bytes);
  limits.open_rounds = absl::GetFlag(FLAGS_max_open_rounds);
  limits.open_bytes = absl::GetFlag(FLAGS_max_open_bytes);
  limits.queued_messages = absl::GetFlag(FLAGS_max_queued_messages);
  limits.queued_bytes = absl::GetFlag(FLAGS_max_queued_bytes);
  if (absl::Status status = Check(options); !status.ok()) return status;
  return options;
}

}  // namespace syncnorm::server
