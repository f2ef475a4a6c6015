// Log: one line on stderr per event, for people and for grep: time, level and
// a sentence that carries group, epoch, round and ranks.  What a peer can
// cause is limited in rate; what was dropped is counted and said.
//
// Thread-safety: Log is thread-safe; RateLimit is thread-compatible.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace syncnorm::server {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError, kOff };

// "debug", "info", "warn", "error", "off".
absl::Status ParseLogLevel(const std::string& text, LogLevel* level);

// Lines below the level are dropped.  kWarning until told otherwise: a coordinator embedded in a
// trainer speaks only of trouble.
void SetLogLevel(LogLevel level);
void Log(LogLevel level, const std::string& text);

// A bucket of tokens, one a line.
class RateLimit {
 public:
  // A burst of 20 tells a whole group's failure; 2 a second are 10 MB of log a day at 60 bytes.
  static constexpr double kBurst = 20;
  static constexpr double kPerSecond = 2;

  // Whether a line may be written now.  `dropped` is set to the number dropped since the last one
  // that was.
  bool Allow(absl::Time now, uint64_t* dropped);

 private:
  double tokens_ = kBurst;
  absl::Time last_ = absl::InfinitePast();
  uint64_t dropped_ = 0;
};

}  // namespace syncnorm::server
