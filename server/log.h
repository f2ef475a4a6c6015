// Log: one line on stderr per event: time, level and a sentence that carries
// group, epoch, round and ranks; as text for people and grep, or as one JSON
// object, with the same in keys of their own.  What a peer can cause is limited
// in rate; what was dropped is counted and said.
//
//   2026-11-28T12:00:00.123+00:00 warning syncnorm: group "world" epoch 3 round 40 ...
//   {"ts":"2026-11-28T12:00:00.123+00:00","level":"warning","msg":"group \"world\" ...",
//    "group":"world","epoch":3,"round":40,"layer":"bn1","direction":"forward","step":17,"ranks":[2]}
//
// Callers may rely on:
//   * One event is one line, whatever a peer's names contain; in JSON it is one valid object, of
//     ASCII only.
//   * A program that called StartLogThread is never held up by what reads its stderr: lines wait
//     in a bounded queue, the oldest are dropped when it is full, and the log says how many.
//   * Otherwise, as in a process that carries a coordinator, no thread is made, and a line is
//     written when Log returns.
//
// Thread-safety: thread-safe but for SetLogFormat and StartLogThread, which come first; RateLimit
// is thread-compatible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/subject.h"

namespace syncnorm::server {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError, kOff };
enum class LogFormat : uint8_t { kText, kJson };

// "debug", "info", "warn", "error", "off"; "text", "json".
absl::Status ParseLogLevel(const std::string& text, LogLevel* level);
absl::Status ParseLogFormat(const std::string& text, LogFormat* format);
const char* Name(LogLevel level);
const char* Name(LogFormat format);

// Lines below the level are dropped.  kWarning until told otherwise: a coordinator embedded in a
// trainer speaks only of trouble.
void SetLogLevel(LogLevel level);
void SetLogFormat(LogFormat format);
void Log(LogLevel level, const std::string& text, const Subject& subject = {});

// Writes a JSON object between two lines of the log: as it is, or as one line where they are JSON.
// Waits for what reads stderr.
void LogReport(const std::string& json);

// A burst of all kinds of lines at their rate limits is below 100; a line is usually below 1 KiB
// and at most some 10, so the queue takes 1 MB, and never more than 10.
constexpr size_t kLogQueueLines = 1024;

// For a program, once: a thread writes from here on.
void StartLogThread();
// Waits until all lines so far are written, for at most `timeout`.  Whether they are.
bool FlushLog(absl::Duration timeout);
// Lines that were dropped because stderr took too long.
uint64_t LogDropped();

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
