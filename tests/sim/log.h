// Log: what happened in a run, for a person.  Off unless a failed seed is run again, since writing
// texts takes longer than all the rest.
//
// Thread-safety: thread-compatible.
#pragma once

#include <cstdio>
#include <deque>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "tests/sim/timeline.h"

namespace syncnorm::sim {

class Log {
 public:
  enum class Level : uint8_t { kOff, kKeep, kPrint };

  Log(const Timeline* timeline, Level level)
      : timeline_(timeline), level_(level), start_(timeline->now()) {}

  bool on() const { return level_ != Level::kOff; }
  template <typename... Parts>
  void Add(const Parts&... parts) {
    if (level_ == Level::kOff) return;
    lines_.push_back(absl::StrCat(absl::FormatDuration(timeline_->now() - start_), "  ", parts...));
    if (level_ == Level::kPrint) std::puts(lines_.back().c_str());
    if (lines_.size() > kKept) lines_.pop_front();
  }
  const std::deque<std::string>& lines() const { return lines_; }

 private:
  // Some dozens of rounds of a middle group.
  static constexpr size_t kKept = 400;

  const Timeline* const timeline_;
  const Level level_;
  const absl::Time start_;
  std::deque<std::string> lines_;
};

}  // namespace syncnorm::sim
