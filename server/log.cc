#include "server/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace syncnorm::server {
namespace {

constexpr std::array<std::pair<const char*, LogLevel>, 5> kLevels = {{
    {"debug", LogLevel::kDebug},
    {"info", LogLevel::kInfo},
    {"warn", LogLevel::kWarning},
    {"error", LogLevel::kError},
    {"off", LogLevel::kOff},
}};

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

// A logger of our own: the program around an embedded coordinator keeps its default one.
spdlog::logger& Logger() {
  static spdlog::logger* const logger = [] {
    auto* made = new spdlog::logger("syncnorm", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l syncnorm: %v");
    made->set_level(spdlog::level::warn);
    return made;
  }();
  return *logger;
}

}  // namespace

absl::Status ParseLogLevel(const std::string& text, LogLevel* level) {
  for (const auto& [name, value] : kLevels) {
    if (text == name) {
      *level = value;
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("log level \"", text, "\" is none of debug, info, warn, error, off"));
}

void SetLogLevel(LogLevel level) { Logger().set_level(ToSpdlog(level)); }

void Log(LogLevel level, const std::string& text) {
  const spdlog::level::level_enum at = ToSpdlog(level);
  if (!Logger().should_log(at)) return;
  // Peers choose the names in a text: they must not start a line of their own.
  std::string line = text;
  std::replace_if(line.begin(), line.end(), absl::ascii_iscntrl, '?');
  Logger().log(at, "{}", line);
}

bool RateLimit::Allow(absl::Time now, uint64_t* dropped) {
  if (last_ != absl::InfinitePast()) {
    tokens_ = std::min(kBurst, tokens_ + kPerSecond * absl::ToDoubleSeconds(now - last_));
  }
  last_ = now;
  if (tokens_ < 1) {
    ++dropped_;
    return false;
  }
  tokens_ -= 1;
  *dropped = std::exchange(dropped_, 0);
  return true;
}

}  // namespace syncnorm::server
