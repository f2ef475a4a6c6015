// The log of a program, whose stderr nobody reads.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/log.h"
#include "tests/server/full_pipe.h"

namespace syncnorm::server {
namespace {

constexpr size_t kLines = 3 * kLogQueueLines;

// Of what a log says: its lines' numbers, and how many were dropped.
struct Seen {
  std::vector<size_t> lines;
  std::vector<uint64_t> dropped;
};

Seen Read(const std::string& log) {
  Seen seen;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    absl::string_view rest = line;
    rest.remove_prefix(rest.find("syncnorm: "));
    uint64_t number = 0;
    if (absl::ConsumePrefix(&rest, "syncnorm: line ")) {
      EXPECT_TRUE(absl::SimpleAtoi(rest, &number)) << line;
      seen.lines.push_back(number);
    } else {
      EXPECT_TRUE(
          absl::ConsumePrefix(&rest, "syncnorm: stderr was too slow for the log: dropped lines: "))
          << line;
      EXPECT_TRUE(absl::SimpleAtoi(rest, &number)) << line;
      EXPECT_GT(number, 0u);
      seen.dropped.push_back(number);
    }
  }
  return seen;
}

TEST(LogThreadTest, AStuckStderrHoldsNobodyUpAndWhatItCostIsSaid) {
  FullPipe pipe;
  const int kept = dup(STDERR_FILENO);
  const int stuck = open(pipe.path().c_str(), O_WRONLY);
  ASSERT_EQ(dup2(stuck, STDERR_FILENO), STDERR_FILENO);
  SetLogLevel(LogLevel::kInfo);
  StartLogThread();
  for (size_t i = 1; i <= kLines; ++i) Log(LogLevel::kInfo, absl::StrCat("line ", i));
  EXPECT_FALSE(FlushLog(absl::Milliseconds(20)));
  const uint64_t dropped = LogDropped();
  // All but the queue and the line that is stuck; and the flush has its place in the queue.
  EXPECT_GE(dropped, kLines - kLogQueueLines);
  EXPECT_LE(dropped, kLines - kLogQueueLines + 1);

  const std::string last = absl::StrCat("line ", kLines, "\n");
  pipe.ReadUntil(last);
  EXPECT_TRUE(FlushLog(absl::Seconds(30)));
  Log(LogLevel::kInfo, "line 7");
  const Seen seen = Read(pipe.ReadUntil("line 7\n"));
  dup2(kept, STDERR_FILENO);
  close(stuck);
  close(kept);

  EXPECT_EQ(LogDropped(), dropped);
  // Said once; or twice, if the queue ran over before the first line was begun.
  EXPECT_LE(seen.dropped.size(), 2u);
  EXPECT_EQ(std::accumulate(seen.dropped.begin(), seen.dropped.end(), uint64_t{0}), dropped);
  ASSERT_EQ(seen.lines.size() + dropped, kLines + 1);
  // The latest, without a gap.
  for (size_t i = 2; i < seen.lines.size() - 1; ++i) {
    ASSERT_EQ(seen.lines[i], seen.lines[i - 1] + 1);
  }
  EXPECT_EQ(seen.lines[seen.lines.size() - 2], kLines);
  EXPECT_EQ(seen.lines.back(), 7u) << "and it goes on";
}

}  // namespace
}  // namespace syncnorm::server
