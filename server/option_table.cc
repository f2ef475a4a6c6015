#include "server/option_table.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/flags/marshalling.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/wire.h"

namespace syncnorm::server {
namespace {

// Values as texts.

std::string Expected(const bool&) { return "true or false"; }
std::string Expected(const absl::Duration&) { return "a duration, such as 30s or 500ms"; }
std::string Expected(const std::string&) { return "a text"; }
template <typename Unsigned>
std::string Expected(const Unsigned&) {
  return absl::StrCat("a whole number from 0 to ", std::numeric_limits<Unsigned>::max());
}

template <typename Value>
absl::Status Parse(const std::string& text, Value* value) {
  std::string unused;
  if (absl::ParseFlag<Value>(text, value, &unused)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not ", Expected(*value)));
}
absl::Status Parse(const std::string& text, LogLevel* level) { return ParseLogLevel(text, level); }
absl::Status Parse(const std::string& text, LogFormat* format) {
  return ParseLogFormat(text, format);
}
absl::Status Parse(const std::string& text, ListenAddress* address) {
  absl::StatusOr<ListenAddress> parsed = ListenAddress::Parse(text);
  if (parsed.ok()) *address = *std::move(parsed);
  return parsed.status();
}
absl::Status Parse(const std::string& text, std::optional<ListenAddress>* address) {
  address->reset();
  return text.empty() ? absl::OkStatus() : Parse(text, &address->emplace());
}

template <typename Value>
std::string Unparse(const Value& value) {
  return absl::UnparseFlag<Value>(value);
}
std::string Unparse(LogLevel level) { return Name(level); }
std::string Unparse(LogFormat format) { return Name(format); }
std::string Unparse(const ListenAddress& address) { return address.With(address.port); }
std::string Unparse(const std::optional<ListenAddress>& address) {
  return address.has_value() ? Unparse(*address) : "";
}

// What a value may be.

struct Any {
  template <typename Value>
  absl::Status operator()(const Value&) const {
    return absl::OkStatus();
  }
};

struct Above0 {
  absl::Status operator()(absl::Duration value) const {
    if (value > absl::ZeroDuration()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(absl::FormatDuration(value), " is not above 0"));
  }
};

struct AtLeast {
  absl::Duration least;
  absl::Status operator()(absl::Duration value) const {
    if (value >= least) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(absl::FormatDuration(value), " is below ", absl::FormatDuration(least)));
  }
};

struct Within {
  uint64_t least;
  uint64_t most;
  absl::Status operator()(uint64_t value) const {
    if (value >= least && value <= most) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(value, " is not within ", least, " to ", most));
  }
};

struct HostAndPort {
  absl::Status operator()(const std::optional<ListenAddress>& value) const {
    if (!value.has_value() || !value->is_unix()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", Unparse(value), "\": expected HOST:PORT"));
  }
};

template <typename Place, typename Valid>
Option Row(const char* name, Place place, Valid valid, const char* help,
           Given given = Given::kAnywhere) {
  using Value = std::decay_t<decltype(place(std::declval<Options&>()))>;
  const auto set = [place, valid](const std::string& text, Options* options) {
    Value value = {};
    if (absl::Status status = Parse(text, &value); !status.ok()) return status;
    if (absl::Status status = valid(value); !status.ok()) return status;
    place(*options) = std::move(value);
    return absl::OkStatus();
  };
  const auto get = [place](const Options& options) { return Unparse(place(options)); };
  return {name, help, given, std::is_same_v<Value, bool>, set, get};
}

#define OPTION(name, place, ...) \
  Row(                           \
      #name, [](auto& options) -> auto& { return options.place; }, __VA_ARGS__)

constexpr uint32_t kAny = std::numeric_limits<int32_t>::max();
// gRPC's message sizes are ints: 2^27 values are 1 GiB.
constexpr uint64_t kMaxValues = uint64_t{1} << 27;
constexpr uint64_t kMaxBytes = uint64_t{1} << 40;

// name, place in Options, what it may be, help
std::vector<Option> Rows() {
  return {
      OPTION(listen, server.listen, Any(),
             "HOST:PORT or unix:PATH to listen on; port 0 picks a free one"),
      OPTION(insecure, server.security.insecure, Any(),
             "listen in plaintext on an address that other machines can reach: whoever reaches it "
             "can read and change the statistics"),
      OPTION(tls_dir, tls_dir, Any(),
             "folder of tls.crt, tls.key and ca.crt, as in a Kubernetes secret: listen with TLS "
             "and ask every worker for a certificate"),
      OPTION(tls_cert, server.security.tls.certificate, Any(),
             "the coordinator's certificate and what signed it, PEM; default tls.crt in --tls_dir"),
      OPTION(tls_key, server.security.tls.key, Any(),
             "its private key, PEM without a passphrase; default tls.key in --tls_dir"),
      OPTION(tls_client_ca, server.security.tls.authorities, Any(),
             "authorities of the workers' certificates, PEM; default ca.crt in --tls_dir"),
      OPTION(tokens, server.security.tokens, Any(),
             "file of digests of tokens: who may join which groups; without it everybody may"),
      // A certificate may change every hour; a folder that is looked at without a pause is no use.
      OPTION(reload_interval, server.security.reload_interval, AtLeast{absl::Milliseconds(10)},
             "between looks at the files of certificates and tokens; changed ones are read again"),
      OPTION(admin_listen, server.admin, HostAndPort(),
             "HOST:PORT of the admin port: plain HTTP for probes, Prometheus and the status page; "
             "empty: none"),
      OPTION(admin_insecure, admin_insecure, Any(),
             "--admin_listen, which is plain HTTP, on an address that other machines can reach: "
             "whoever reaches it can see groups, hosts and ranks"),
      OPTION(
          grpc_reflection, server.reflection, Any(),
          "answer gRPC's reflection service, with which grpcurl and the like learn the protocol"),
      OPTION(port_file, port_file, Any(), "file to write the port to, atomically, once listening"),
      OPTION(dump_dir, server.dump_dir, Any(),
             "directory, which is there, for a JSON report on a group when something failed in it, "
             "at most one in 10 s, and on SIGUSR1 on all groups; empty: no files, and SIGUSR1 "
             "writes to stderr"),
      OPTION(log_level, log_level, Any(), "debug, info, warn, error or off; the log is on stderr"),
      OPTION(log_format, log_format, Any(), "text, or json: one object a line"),

      OPTION(round_timeout, server.settings.timeouts.round, Above0(),
             "from a round's first contribution to its failure, where the workers say nothing"),
      OPTION(join_timeout, server.settings.timeouts.join, Above0(),
             "from a group's first join to its failure, where the workers say nothing"),
      OPTION(reconnect_grace, server.settings.timeouts.reconnect, AtLeast{absl::ZeroDuration()},
             "from the end of a member's connection to its loss, for it to come back"),
      OPTION(resume_timeout, server.settings.timeouts.resume, Above0(),
             "after a restart, from the first member that resumes a run to the last"),
      OPTION(replace_duplicates, server.settings.timeouts.replace_duplicates, Any(),
             "a worker that claims a living member's rank takes its place, and the epoch ends; "
             "otherwise the newcomer is refused"),
      OPTION(handshake_timeout, server.settings.timeouts.handshake, Above0(),
             "from a connection's opening to the end of its handshake"),
      OPTION(idle_timeout, server.settings.timeouts.idle, Above0(),
             "for a connection without a stream, to its end"),
      OPTION(hello_timeout, server.settings.timeouts.hello, Above0(),
             "from a stream's opening to its Join"),
      OPTION(drain_grace, drain_grace, AtLeast{absl::ZeroDuration()},
             "for rounds in flight to finish after SIGTERM"),
      OPTION(straggler_warning, server.settings.timeouts.straggler_warning, Above0(),
             "from a round's first contribution to a line in the log that names the missing "
             "workers; inf: none"),

      OPTION(max_groups, server.settings.limits.groups, Within{1, kAny}, "groups at once"),
      OPTION(max_members, server.settings.limits.members, Within{1, wire::kMaxWorldSize},
             "members of one group, at most 4096"),
      OPTION(max_streams, server.settings.limits.streams, Within{1, kAny - 1},
             "streams at once, over all groups"),
      OPTION(max_values, server.settings.limits.values, Within{1, kMaxValues},
             "rows x channels of one contribution"),
      OPTION(max_layer_name_bytes, server.settings.limits.layer_name_bytes, Within{1, 64 << 10},
             "bytes of a layer's name"),
      OPTION(max_layers, server.settings.limits.layers, Within{1, kAny},
             "layers per group, directions apart, whose waits are told apart in reports"),
      OPTION(flight_rounds, server.settings.limits.flight_rounds, Within{1, kAny},
             "ended rounds kept per group for reports"),
      OPTION(kept_rounds, server.settings.limits.kept_rounds, Within{kMinKeptRounds, kAny},
             "ended rounds kept per group to answer repeats"),
      OPTION(max_kept_bytes, server.settings.limits.kept_bytes, Within{1, kMaxBytes},
             "bytes of those, per group; two rounds are always kept"),
      OPTION(max_open_rounds, server.settings.limits.open_rounds, Within{1, kAny},
             "open rounds per group"),
      OPTION(max_open_bytes, server.settings.limits.open_bytes, Within{1, kMaxBytes},
             "bytes of values in open rounds, per group"),
      OPTION(max_handover_bytes, server.settings.limits.handover_bytes, Within{1, kMaxBytes},
             "bytes of the state that is handed over to late workers, per group"),
      OPTION(max_queued_messages, server.settings.limits.queued_messages, Within{1, kAny},
             "messages that wait for one worker to read before it is cut off"),
      OPTION(max_queued_bytes, server.settings.limits.queued_bytes, Within{1, kMaxBytes},
             "bytes of those"),

      OPTION(config, config, Any(),
             "YAML file of these options, a map from name to value; the environment and the "
             "command line come before it",
             Given::kInEnvironment),
      OPTION(print_config, print_config, Any(),
             "print all options as such a file, with where each came from, and end",
             Given::kNowhereElse),
      OPTION(check_config, check_config, Any(),
             "check the options and the files that they name, and end: 0 if all is well",
             Given::kNowhereElse),
  };
}
#undef OPTION

// Of Levenshtein: letters to change, add or take away.
size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

const std::vector<Option>& OptionTable() {
  static const auto* const table = [] {
    auto* rows = new std::vector<Option>(Rows());
    std::sort(rows->begin(), rows->end(),
              [](const Option& a, const Option& b) { return a.name < b.name; });
    return rows;
  }();
  return *table;
}

const Option* FindOption(absl::string_view name) {
  for (const Option& option : OptionTable()) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

const Option* NearestOption(absl::string_view name) {
  // Nothing is like a name of this length; and the table would be slow.
  if (name.size() > 64) return nullptr;
  const Option* nearest = nullptr;
  size_t least = std::max<size_t>(2, name.size() / 3);  // further away is another word
  for (const Option& option : OptionTable()) {
    const size_t distance = Distance(name, option.name);
    if (distance > least || (nearest != nullptr && distance == least)) continue;
    nearest = &option;
    least = distance;
  }
  return nearest;
}

}  // namespace syncnorm::server
