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
    "  syncnorm-coordinator --listen=unix:/run/syncnorm.sock\n"
    "  syncnorm-coordinator --listen=0.0.0.0:7070 --tls_dir=/etc/syncnorm/tls "
    "--tokens=/etc/syncnorm/tokens\n\n"
    "SIGTERM and SIGINT drain: rounds in flight finish, workers are told, exit status 0; a second\n"
    "signal ends it at once.  SIGUSR1 reports who waited for whom.  Limits answer with "
    "RESOURCE_EXHAUSTED and never stop the process.";

}  // namespace

ABSL_FLAG(std::string, listen, "127.0.0.1:7070",
          "HOST:PORT or unix:PATH to listen on; port 0 picks a free one");
ABSL_FLAG(bool, insecure, false,
          "listen in plaintext on an address that other machines can reach: whoever reaches it can "
          "read and change the statistics");
ABSL_FLAG(std::string, tls_dir, "",
          "folder of tls.crt, tls.key and ca.crt, as in a Kubernetes secret: listen with TLS and "
          "ask every worker for a certificate");
ABSL_FLAG(std::string, tls_cert, "",
          "the coordinator's certificate and what signed it, PEM; default tls.crt in --tls_dir");
ABSL_FLAG(std::string, tls_key, "",
          "its private key, PEM without a passphrase; default tls.key in --tls_dir");
ABSL_FLAG(std::string, tls_client_ca, "",
          "authorities of the workers' certificates, PEM; default ca.crt in --tls_dir");
ABSL_FLAG(std::string, tokens, "",
          "file of digests of tokens: who may join which groups; without it everybody may");
ABSL_FLAG(absl::Duration, reload_interval, syncnorm::server::SecurityOptions().reload_interval,
          "between looks at the files of certificates and tokens; changed ones are read again");
ABSL_FLAG(std::string, admin_listen, "",
          "HOST:PORT of the admin port: plain HTTP for probes, Prometheus and the status page");
ABSL_FLAG(std::string, port_file, "", "file to write the port to, atomically, once listening");
ABSL_FLAG(std::string, dump_dir, "",
          "directory, which is there, for a JSON report on a group when something failed in it, at "
          "most one in 10 s, "
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
ABSL_FLAG(bool, replace_duplicates, Timeouts().replace_duplicates,
          "a worker that claims a living member's rank takes its place, and the epoch ends; "
          "otherwise the newcomer is refused");
ABSL_FLAG(absl::Duration, handshake_timeout, Timeouts().handshake,
          "from a connection's opening to the end of its handshake");
ABSL_FLAG(absl::Duration, idle_timeout, Timeouts().idle,
          "for a connection without a stream, to its end");
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
ABSL_FLAG(uint64_t, max_handover_bytes, Limits().handover_bytes,
          "bytes of the state that is handed over to late workers, per group");
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
      CheckPositive("handshake_timeout", timeouts.handshake),
      CheckPositive("idle_timeout", timeouts.idle),
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
      CheckRange("max_handover_bytes", limits.handover_bytes, 1, kMaxBytes),
      CheckRange("max_queued_messages", limits.queued_messages, 1, kAny),
      CheckRange("max_queued_bytes", limits.queued_bytes, 1, kMaxBytes),
  });
}

SecurityOptions ReadSecurity() {
  SecurityOptions security;
  const std::string folder = absl::GetFlag(FLAGS_tls_dir);
  const auto file = [&folder](const std::string& given, const char* name) {
    return given.empty() && !folder.empty() ? absl::StrCat(folder, "/", name) : given;
  };
  security.tls.certificate = file(absl::GetFlag(FLAGS_tls_cert), "tls.crt");
  security.tls.key = file(absl::GetFlag(FLAGS_tls_key), "tls.key");
  security.tls.authorities = file(absl::GetFlag(FLAGS_tls_client_ca), "ca.crt");
  security.tokens = absl::GetFlag(FLAGS_tokens);
  security.insecure = absl::GetFlag(FLAGS_insecure);
  security.reload_interval = absl::GetFlag(FLAGS_reload_interval);
  return security;
}

absl::Status CheckSecurity(const ListenAddress& listen, const SecurityOptions& security) {
  const TlsFiles& tls = security.tls;
  const int given = !tls.certificate.empty() + !tls.key.empty() + !tls.authorities.empty();
  if (given != 0 && given != 3) {
    return Bad(tls.certificate.empty() ? "tls_cert"
               : tls.key.empty()       ? "tls_key"
                                       : "tls_client_ca",
               "is missing; TLS needs a certificate, its key and the workers' authorities");
  }
  // A certificate may change every hour; a folder that is looked at without a pause is no use.
  if (security.reload_interval < absl::Milliseconds(10)) {
    return Bad("reload_interval",
               absl::StrCat(absl::FormatDuration(security.reload_interval), " is below 10ms"));
  }
  if (!Exposed(listen, security) || security.insecure) return absl::OkStatus();
  return Bad("listen",
             absl::StrCat(listen.With(listen.port),
                          " can be reached by other machines, which needs TLS (--tls_dir)"
                          "; it would be in plaintext: give --insecure if that is meant"));
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
  options.server.security = ReadSecurity();
  if (absl::Status status = CheckSecurity(*listen, options.server.security); !status.ok()) {
    return status;
  }
  options.server.listen = *std::move(listen);
  if (absl::Status status = ParseLogLevel(absl::GetFlag(FLAGS_log_level), &options.log_level);
      !status.ok()) {
    return Bad("log_level", std::string(status.message()));
  }
  if (!absl::GetFlag(FLAGS_admin_listen).empty()) {
    absl::StatusOr<ListenAddress> admin = ListenAddress::Parse(absl::GetFlag(FLAGS_admin_listen));
    if (!admin.ok()) return Bad("admin_listen", std::string(admin.status().message()));
    options.server.admin = *std::move(admin);
  }
  options.server.dump_dir = absl::GetFlag(FLAGS_dump_dir);
  options.port_file = absl::GetFlag(FLAGS_port_file);
  options.drain_grace = absl::GetFlag(FLAGS_drain_grace);

  Timeouts& timeouts = options.server.settings.timeouts;
  timeouts.round = absl::GetFlag(FLAGS_round_timeout);
  timeouts.join = absl::GetFlag(FLAGS_join_timeout);
  timeouts.handshake = absl::GetFlag(FLAGS_handshake_timeout);
  timeouts.idle = absl::GetFlag(FLAGS_idle_timeout);
  timeouts.hello = absl::GetFlag(FLAGS_hello_timeout);
  timeouts.reconnect = absl::GetFlag(FLAGS_reconnect_grace);
  timeouts.resume = absl::GetFlag(FLAGS_resume_timeout);
  timeouts.replace_duplicates = absl::GetFlag(FLAGS_replace_duplicates);
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
  limits.handover_bytes = absl::GetFlag(FLAGS_max_handover_bytes);
  limits.queued_messages = absl::GetFlag(FLAGS_max_queued_messages);
  limits.queued_bytes = absl::GetFlag(FLAGS_max_queued_bytes);
  if (absl::Status status = Check(options); !status.ok()) return status;
  return options;
}

}  // namespace syncnorm::server
