#include "server/ctl_flags.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <type_traits>
#include <variant>

#include "absl/flags/marshalling.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace syncnorm::server {
namespace {

using Field = std::variant<std::string CtlFlags::*, bool CtlFlags::*, uint32_t CtlFlags::*,
                           absl::Duration CtlFlags::*>;

struct Flag {
  const char* name;
  Field field;
  const char* help;
  const char* variable = nullptr;
};

constexpr Flag kFlags[] = {
    {"address", &CtlFlags::address, "HOST:PORT or unix:PATH of the coordinator", "SYNCNORM_ADDR"},
    {"tls_dir", &CtlFlags::tls_dir,
     "folder of tls.crt, tls.key and ca.crt, as certs makes it and as in a Kubernetes secret; a "
     "file token in it is presented too"},
    {"tls_ca", &CtlFlags::tls_ca,
     "file of the authorities that the coordinator's certificate comes from; none: plaintext",
     "SYNCNORM_TLS_CA"},
    {"tls_cert", &CtlFlags::tls_cert, "file of the certificate to present", "SYNCNORM_TLS_CERT"},
    {"tls_key", &CtlFlags::tls_key, "file of its key", "SYNCNORM_TLS_KEY"},
    {"tls_server_name", &CtlFlags::tls_server_name,
     "the name in the coordinator's certificate, if it is not the address's",
     "SYNCNORM_TLS_SERVER_NAME"},
    {"token_file", &CtlFlags::token_file, "file of the token to present, of role reader or admin",
     "SYNCNORM_TOKEN_FILE"},
    {"insecure", &CtlFlags::insecure, "let the token travel in plaintext to another machine"},
    {"timeout", &CtlFlags::timeout, "for each answer; drain --wait: for the end, 1m if not given"},
    {"json", &CtlFlags::json, "what was answered, as JSON"},
    {"group", &CtlFlags::group, "only this group"},
    {"rounds", &CtlFlags::rounds, "ended rounds of each group, the latest; 0: report 256, ring 20"},
    {"interval", &CtlFlags::interval, "between two frames"},
    {"count", &CtlFlags::count, "frames, then end; 0: until Ctrl-C or q"},
    {"service", &CtlFlags::service,
     "whose health: liveness, readiness, syncnorm.v1.Coordinator; empty: the coordinator's"},
    {"wait", &CtlFlags::wait, "until the coordinator is gone"},
    {"out", &CtlFlags::out, "folder to make them in"},
    {"coordinator", &CtlFlags::coordinator,
     "names and IP addresses under which workers reach the coordinator, with commas between; "
     "localhost, 127.0.0.1 and ::1 are added; --renew: those of its certificate, if not given"},
    {"days", &CtlFlags::days, "that the certificates are valid, 1 to 3650; the authority: 3650"},
    {"groups", &CtlFlags::groups,
     "that the workers' token may join, with commas between; * stands for any characters"},
    {"mode", &CtlFlags::mode,
     "rights of the keys and tokens: 0600, or 0640 where processes of the file's group read them"},
    {"renew", &CtlFlags::renew,
     "new certificates from the authority that is there, in place of the old ones; tokens stay"},
    {"keep", &CtlFlags::keep, "where everything is there already, change nothing and end with 0"},
};

constexpr const char* kConnectionFlags[] = {"address",    "tls_dir",  "tls_ca",
                                            "tls_cert",   "tls_key",  "tls_server_name",
                                            "token_file", "insecure", "timeout"};

const Flag* Find(absl::string_view name) {
  const auto* const found = std::find_if(std::begin(kFlags), std::end(kFlags),
                                         [name](const Flag& flag) { return name == flag.name; });
  return found == std::end(kFlags) ? nullptr : found;
}

// Writes a text into the field; what it should have been, if it cannot.
struct Set {
  CtlFlags* flags;
  const std::string& text;

  absl::string_view operator()(std::string CtlFlags::*field) const {
    flags->*field = text;
    return "";
  }
  absl::string_view operator()(bool CtlFlags::*field) const {
    return Parse(&(flags->*field), "true or false");
  }
  absl::string_view operator()(uint32_t CtlFlags::*field) const {
    return Parse(&(flags->*field), "a whole number of 0 or more");
  }
  absl::string_view operator()(absl::Duration CtlFlags::*field) const {
    if (!Parse(&(flags->*field), "?").empty() || flags->*field <= absl::ZeroDuration()) {
      return "a duration of more than 0 with its unit, as in 30s";
    }
    return "";
  }

 private:
  template <typename T>
  absl::string_view Parse(T* value, absl::string_view expected) const {
    std::string error;
    return absl::ParseFlag(absl::string_view(text), value, &error) ? "" : expected;
  }
};

std::string Default(const Flag& flag) {
  static const CtlFlags* const defaults = new CtlFlags;
  return std::visit(
      [](auto field) {
        using Value = std::decay_t<decltype(defaults->*field)>;
        return absl::UnparseFlag<Value>(defaults->*field);
      },
      flag.field);
}

absl::Status Bad(absl::string_view name, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--", name, " ", why));
}

// One argument that starts with '-', and perhaps its value in the next.
absl::Status ParseOne(const std::vector<std::string>& arguments, size_t* at,
                      const std::vector<std::string>& taken, CtlFlags* flags) {
  absl::string_view rest = arguments[*at];
  if (!absl::ConsumePrefix(&rest, "--")) absl::ConsumePrefix(&rest, "-");
  const size_t equals = rest.find('=');
  const bool has_value = equals != absl::string_view::npos;
  std::string name(rest.substr(0, equals));
  std::string value(has_value ? rest.substr(equals + 1) : "");
  const Flag* flag = Find(name);
  if (flag == nullptr && !has_value && absl::StartsWith(name, "no")) {
    flag = Find(absl::string_view(name).substr(2));
    if (flag != nullptr && !std::holds_alternative<bool CtlFlags::*>(flag->field)) flag = nullptr;
    value = "false";
  } else if (flag != nullptr && !has_value) {
    if (std::holds_alternative<bool CtlFlags::*>(flag->field)) {
      value = "true";
    } else if (*at + 1 < arguments.size()) {
      value = arguments[++*at];
    } else {
      return Bad(name, "has no value");
    }
  }
  if (flag == nullptr) return Bad(name, "is not a flag; see syncnormctl help");
  if (std::find(taken.begin(), taken.end(), flag->name) == taken.end()) {
    return Bad(name, "is not a flag of this command");
  }
  const absl::string_view expected = std::visit(Set{flags, value}, flag->field);
  if (!expected.empty()) {
    return Bad(name, absl::StrCat("is \"", value, "\", expected ", expected));
  }
  flags->given.insert(flag->name);
  return absl::OkStatus();
}

}  // namespace

CtlOptions CtlFlags::connection() const {
  CtlOptions options;
  options.address = address;
  options.server_name = tls_server_name;
  options.insecure = insecure;
  const auto file = [this](const std::string& own, const char* name) {
    return own.empty() && !tls_dir.empty() ? absl::StrCat(tls_dir, "/", name) : own;
  };
  options.tls = {file(tls_cert, "tls.crt"), file(tls_key, "tls.key"), file(tls_ca, "ca.crt")};
  options.token_file = token_file;
  if (token_file.empty() && !tls_dir.empty()) {
    const std::string beside = absl::StrCat(tls_dir, "/token");
    if (access(beside.c_str(), F_OK) == 0) options.token_file = beside;
  }
  return options;
}

absl::Span<const char* const> CtlConnectionFlags() { return kConnectionFlags; }

absl::Status ParseCtlFlags(const std::vector<std::string>& arguments,
                           const std::vector<std::string>& taken, CtlFlags* flags,
                           std::vector<std::string>* words) {
  for (size_t at = 0; at < arguments.size(); ++at) {
    const std::string& argument = arguments[at];
    if (argument.size() < 2 || argument[0] != '-') {
      words->push_back(argument);
    } else if (absl::Status status = ParseOne(arguments, &at, taken, flags); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

void ReadCtlEnvironment(const CtlEnvironment& environment, CtlFlags* flags) {
  // A certificate and its key come from one place, and so does what --tls_dir stands for.
  const bool own_pair = flags->Given("tls_cert") || flags->Given("tls_key");
  for (const Flag& flag : kFlags) {
    if (flag.variable == nullptr || flags->Given(flag.name)) continue;
    const absl::string_view name = flag.name;
    const bool in_folder =
        name == "tls_ca" || name == "tls_cert" || name == "tls_key" || name == "token_file";
    if (in_folder && flags->Given("tls_dir")) continue;
    if (own_pair && (name == "tls_cert" || name == "tls_key")) continue;
    const std::string value = environment(flag.variable);
    if (!value.empty()) std::visit(Set{flags, value}, flag.field);
  }
}

std::string CtlFlagsHelp(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    const Flag& flag = *Find(name);
    absl::StrAppend(&text, "  --", name, "  (", Default(flag),
                    flag.variable == nullptr ? "" : absl::StrCat("; ", flag.variable), ")\n      ",
                    flag.help, "\n");
  }
  return text;
}

}  // namespace syncnorm::server
