#include "server/process_stats.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace syncnorm::server {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

std::string Read(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

double ToNumber(absl::string_view text) {
  double number = 0;
  return absl::SimpleAtod(text, &number) ? number : 0;
}

// Since 1970; when the machine started.
double BootTime() {
  for (const absl::string_view line : absl::StrSplit(Read("/proc/stat"), '\n')) {
    if (absl::StartsWith(line, "btime ")) return ToNumber(line.substr(6));
  }
  return 0;
}

}  // namespace

ProcessStats ReadProcessStats() {
  ProcessStats stats;
  rusage usage = {};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    stats.cpu_s = Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
  }
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) stats.max_fds = static_cast<double>(limit.rlim_cur);
  std::error_code ignored;
  const std::filesystem::directory_iterator fds("/proc/self/fd", ignored);
  // One of them is that of the listing itself.
  if (!ignored) {
    stats.open_fds = static_cast<double>(std::distance(begin(fds), end(fds))) - 1;
  }
  // proc(5): the program's name, in parentheses, may hold anything; the state, field 3, follows.
  const std::string stat = Read("/proc/self/stat");
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return stats;
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(name_end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTime = 22 - 3, kResident = 24 - 3;
  if (fields.size() <= kResident) return stats;
  stats.start_time_s =
      BootTime() + ToNumber(fields[kStartTime]) / static_cast<double>(sysconf(_SC_CLK_TCK));
  stats.resident_bytes = ToNumber(fields[kResident]) * static_cast<double>(sysconf(_SC_PAGESIZE));
  return stats;
}

}  // namespace syncnorm::server
