#include "server/log.h"

#include <spdlog/async.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "kernels/check.h"
#include "server/log_line.h"

namespace syncnorm::server {
namespace {

constexpr std::array<std::pair<const char*, LogLevel>, 5> kLevels = {{
    {"debug", LogLevel::kDebug},
    {"info", LogLevel::kInfo},
    {"warn", LogLevel::kWarning},
    {"error", LogLevel::kError},
    {"off", LogLevel::kOff},
}};
constexpr std::array<std::pair<const char*, LogFormat>, 2> kFormats = {{
    {"text", LogFormat::kText},
    {"json", LogFormat::kJson},
}};
constexpr char kName[] = "syncnorm";
constexpr char kTextPattern[] = "%Y-%m-%dT%H:%M:%S.%e%z %l syncnorm: %v";
constexpr char kJsonPattern[] = R"({"ts":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})";

template <typename Table, typename Value>
bool Find(const Table& table, const std::string& text, Value* value) {
  for (const auto& [name, found] : table) {
    if (text != name) continue;
    *value = found;
    return true;
  }
  return false;
}

template <typename Table, typename Value>
const char* NameIn(const Table& table, Value value) {
  for (const auto& [name, found] : table) {
    if (value == found) return name;
  }
  return "";
}

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

std::atomic<LogFormat> format = LogFormat::kText;

std::string Line(const std::string& text, const Subject& subject) {
  return format == LogFormat::kText ? TextLine(text) : JsonFields(text, subject);
}

// Writes to stderr, and says where the queue before it has lost lines.
class Stderr final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  // The queue is there from now on.
  void Follow(std::shared_ptr<spdlog::details::thread_pool> queue) { queue_ = std::move(queue); }

  uint64_t flushes() const {
    const absl::MutexLock lock(&flushes_mutex_);
    return flushes_;
  }
  // Whether there were as many flushes within the time.
  bool AwaitFlushes(uint64_t wanted, absl::Duration timeout) const {
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(flushes_mutex_) {
      return flushes_ >= wanted;
    };
    const absl::MutexLock lock(&flushes_mutex_);
    return flushes_mutex_.AwaitWithTimeout(absl::Condition(&enough), timeout);
  }

  void WriteWhole(absl::string_view text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Write(text);
  }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    // Where the gap is; but lines that go on being lost are not told line by line.
    if (written_ >= tell_next_) TellDropped(message.time);
    Write(message);
    ++written_;
    if (queue_ != nullptr && queue_->queue_size() == 0) TellDropped(message.time);
  }

  void flush_() override {
    const absl::MutexLock lock(&flushes_mutex_);
    ++flushes_;
  }

  void TellDropped(spdlog::log_clock::time_point time) {
    if (queue_ == nullptr) return;
    const uint64_t dropped = queue_->overrun_counter();
    if (dropped == told_) return;
    const std::string line =
        Line(absl::StrCat("stderr was too slow for the log: dropped lines: ", dropped - told_), {});
    Write(spdlog::details::log_msg(time, spdlog::source_loc(), kName, spdlog::level::warn, line));
    told_ = dropped;
    tell_next_ = written_ + kLogQueueLines;
  }

  void Write(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    Write(absl::string_view(line.data(), line.size()));
  }

  // Not by way of stdio: its lock would be held while nobody reads, and exit() waits for it.
  static void Write(absl::string_view text) {
    while (!text.empty()) {
      const ssize_t n = write(STDERR_FILENO, text.data(), text.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;  // a log that broke is no reason to end
      text.remove_prefix(static_cast<size_t>(n));
    }
  }

  std::shared_ptr<spdlog::details::thread_pool> queue_;  // null: none
  uint64_t written_ = 0;
  uint64_t told_ = 0;       // dropped lines that were told of
  uint64_t tell_next_ = 0;  // not before as many are written
  mutable absl::Mutex flushes_mutex_;
  uint64_t flushes_ ABSL_GUARDED_BY(flushes_mutex_) = 0;
};

// All of it lives as long as the process: a thread that cannot write cannot be joined either.
struct Writer {
  // A logger of our own: the program around an embedded coordinator keeps its default one.
  Writer() : direct(std::make_shared<spdlog::logger>(kName, sink)), logger(direct.get()) {
    direct->set_pattern(kTextPattern);
    direct->set_level(spdlog::level::warn);
  }

  const std::shared_ptr<Stderr> sink = std::make_shared<Stderr>();
  const std::shared_ptr<spdlog::logger> direct;
  std::shared_ptr<spdlog::details::thread_pool> queue;
  std::shared_ptr<spdlog::logger> queued;
  std::atomic<spdlog::logger*> logger;  // in use: one of the two
};

Writer& TheWriter() {
  static Writer* const writer = new Writer;
  return *writer;
}

spdlog::logger& Logger() { return *TheWriter().logger.load(); }

}  // namespace

absl::Status ParseLogLevel(const std::string& text, LogLevel* level) {
  if (Find(kLevels, text, level)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("log level \"", text, "\" is none of debug, info, warn, error, off"));
}

absl::Status ParseLogFormat(const std::string& text, LogFormat* parsed) {
  if (Find(kFormats, text, parsed)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("log format \"", text, "\" is none of text, json"));
}

const char* Name(LogLevel level) { return NameIn(kLevels, level); }
const char* Name(LogFormat value) { return NameIn(kFormats, value); }

void SetLogLevel(LogLevel level) { Logger().set_level(ToSpdlog(level)); }

void SetLogFormat(LogFormat chosen) {
  format = chosen;
  TheWriter().sink->set_pattern(chosen == LogFormat::kText ? kTextPattern : kJsonPattern);
}

void Log(LogLevel level, const std::string& text, const Subject& subject) {
  const spdlog::level::level_enum at = ToSpdlog(level);
  spdlog::logger& logger = Logger();
  if (logger.should_log(at)) logger.log(at, spdlog::string_view_t(Line(text, subject)));
}

void LogReport(const std::string& json) {
  std::string text = json;
  if (format == LogFormat::kJson) {
    // Outside of strings only: within them a newline is written \n.
    bool indentation = false;
    std::erase_if(text, [&indentation](char c) {
      indentation = c == '\n' || (indentation && c == ' ');
      return indentation;
    });
    text += '\n';
  }
  TheWriter().sink->WriteWhole(text);
}

void StartLogThread() {
  Writer& writer = TheWriter();
  SYNCNORM_CHECK(writer.queue == nullptr);
  writer.queue = std::make_shared<spdlog::details::thread_pool>(kLogQueueLines, 1);
  writer.sink->Follow(writer.queue);
  writer.queued = std::make_shared<spdlog::async_logger>(
      kName, writer.sink, writer.queue, spdlog::async_overflow_policy::overrun_oldest);
  writer.queued->set_level(writer.direct->level());
  writer.logger = writer.queued.get();
}

bool FlushLog(absl::Duration timeout) {
  const Stderr& sink = *TheWriter().sink;
  const uint64_t before = sink.flushes();
  Logger().flush();
  return sink.AwaitFlushes(before + 1, timeout);
}

uint64_t LogDropped() {
  const auto& queue = TheWriter().queue;
  return queue == nullptr ? 0 : queue->overrun_counter();
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
