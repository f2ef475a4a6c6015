#include "server/option_sources.h"

#include <cstddef>
#include <functional>
#include <regex>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/config_file.h"

namespace syncnorm::server {
namespace {

constexpr char kPrefix[] = "SYNCNORM_COORDINATOR_";

std::string Flag(absl::string_view name) { return absl::StrCat("--", name); }
std::string Variable(absl::string_view name) {
  return absl::StrCat(kPrefix, absl::AsciiStrToUpper(name));
}
std::string Key(absl::string_view name) { return std::string(name); }

// "; did you mean --listen?", or nothing.
std::string Hint(absl::string_view name, Given least,
                 const std::function<std::string(absl::string_view)>& written) {
  const Option* nearest = NearestOption(name);
  if (nearest == nullptr || nearest->given > least) return "";
  return absl::StrCat("; did you mean ", written(nearest->name), "?");
}

// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables: for a
// Service whose name begins with syncnorm-coordinator, as they look behind the prefix.
bool IsServiceLink(const std::string& name, const std::string& value) {
  static const std::regex* const link = new std::regex(
      "(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)");
  static const std::regex* const port = new std::regex("(.*_)?PORT");  // of any option's name, too
  return std::regex_match(name, *link) ||
         (std::regex_match(name, *port) && absl::StrContains(value, "://"));
}

}  // namespace

absl::StatusOr<std::vector<Setting>> FromCommandLine(const std::vector<std::string>& arguments) {
  std::vector<Setting> settings;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view rest = arguments[i];
    if (!absl::ConsumePrefix(&rest, "--") && !absl::ConsumePrefix(&rest, "-")) {
      return absl::InvalidArgumentError(
          absl::StrCat("unexpected argument \"", arguments[i], "\"; see --help"));
    }
    const size_t equals = rest.find('=');
    const absl::string_view name = rest.substr(0, equals);
    Setting setting{FindOption(name), "", Flag(name), "flag"};
    if (setting.option != nullptr && equals != absl::string_view::npos) {
      setting.value = std::string(rest.substr(equals + 1));
    } else if (setting.option != nullptr && setting.option->is_switch) {
      setting.value = "true";
    } else if (setting.option != nullptr) {
      if (++i == arguments.size()) {
        return absl::InvalidArgumentError(absl::StrCat(setting.name, ": its value is missing"));
      }
      setting.value = arguments[i];
    } else {
      absl::string_view positive = name;
      setting.option = absl::ConsumePrefix(&positive, "no") ? FindOption(positive) : nullptr;
      setting.value = "false";
      if (setting.option == nullptr || !setting.option->is_switch ||
          equals != absl::string_view::npos) {
        return absl::InvalidArgumentError(absl::StrCat(
            setting.name, ": is no flag", Hint(name, Given::kNowhereElse, &Flag), "; see --help"));
      }
    }
    settings.push_back(std::move(setting));
  }
  return settings;
}

absl::StatusOr<std::vector<Setting>> FromEnvironment(const std::vector<std::string>& variables) {
  std::vector<Setting> settings;
  std::set<std::string> seen;  // as for getenv, the first counts
  for (const std::string& variable : variables) {
    absl::string_view rest = variable;
    if (!absl::ConsumePrefix(&rest, kPrefix)) continue;
    const size_t equals = rest.find('=');
    const std::string upper(rest.substr(0, equals));
    const std::string value(equals == absl::string_view::npos ? "" : rest.substr(equals + 1));
    if (!seen.insert(upper).second) continue;
    const std::string name = absl::AsciiStrToLower(upper);
    const Option* option = FindOption(name);
    if (option != nullptr && option->given <= Given::kInEnvironment &&
        Variable(name) == kPrefix + upper) {
      settings.push_back({option, value, Variable(name), "environment"});
    } else if (!IsServiceLink(upper, value)) {
      return absl::InvalidArgumentError(absl::StrCat(kPrefix, upper, ": is the variable of no flag",
                                                     Hint(name, Given::kInEnvironment, &Variable),
                                                     "; see --help"));
    }
  }
  return settings;
}

absl::StatusOr<std::vector<Setting>> FromFile(const std::string& path) {
  const absl::StatusOr<std::vector<ConfigEntry>> entries = ReadConfig(path);
  if (!entries.ok()) return entries.status();
  std::vector<Setting> settings;
  for (const ConfigEntry& entry : *entries) {
    const std::string place = absl::StrCat(path, ":", entry.line);
    const Option* option = FindOption(entry.name);
    if (option == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": ", entry.name, ": is no flag's name",
                                                     Hint(entry.name, Given::kAnywhere, &Key),
                                                     "; see --help"));
    }
    if (option->given != Given::kAnywhere) {
      return absl::InvalidArgumentError(
          absl::StrCat(place, ": ", entry.name, ": cannot be given in a file"));
    }
    settings.push_back(
        {option, entry.value, absl::StrCat(place, ": ", entry.name), absl::StrCat("file ", place)});
  }
  return settings;
}

}  // namespace syncnorm::server
