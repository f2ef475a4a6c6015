#include "server/ctl_text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_format.h"

namespace syncnorm::server {
namespace {

// Whether a character begins here, and does not go on.
bool Starts(char c) { return (c & 0xC0) != 0x80; }

size_t Length(absl::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), Starts));
}

}  // namespace

std::string Time(double seconds) {
  if (seconds < 1e-3) return absl::StrFormat("%.0f us", seconds * 1e6);
  if (seconds < 1) return absl::StrFormat("%.1f ms", seconds * 1e3);
  if (seconds < 600) return absl::StrFormat("%.1f s", seconds);
  if (seconds < 2 * 3600) return absl::StrFormat("%.0f min", seconds / 60);
  if (seconds < 48 * 3600) return absl::StrFormat("%.1f h", seconds / 3600);
  return absl::StrFormat("%.0f days", seconds / 86400);
}

double Share(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

std::string Left(std::string text, size_t width) {
  const size_t length = Length(text);
  if (length < width) text.append(width - length, ' ');
  return text;
}

std::string Right(std::string text, size_t width) {
  const size_t length = Length(text);
  if (length < width) text.insert(0, width - length, ' ');
  return text;
}

std::string Cut(absl::string_view line, size_t width) {
  if (Length(line) <= width) return std::string(line);
  if (width == 0) return "";
  size_t characters = 0;
  size_t end = 0;
  while (end < line.size()) {
    if (Starts(line[end]) && ++characters == width) break;
    ++end;
  }
  return absl::StrCat(line.substr(0, end), "~");
}

std::string Plain(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

std::string Describe(const v1::RoundReportKey& key) {
  return absl::StrFormat("round %.0f %s (%s, step %.0f)", key.round(), Plain(key.layer()),
                         key.direction(), key.step());
}

std::string HereOf(const v1::GroupReport& group) {
  const auto here = std::count_if(group.members().begin(), group.members().end(),
                                  [](const auto& member) { return member.state() == "here"; });
  return absl::StrCat(here, "/", group.members_size());
}

std::string LeftOut(uint32_t groups) {
  if (groups == 0) return "";
  return absl::StrCat(groups, " groups left out; ask for them with --group\n");
}

absl::StatusOr<int> Print(absl::string_view text, std::FILE* out) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), out) == text.size() && std::fflush(out) == 0;
  if (written) return 0;
  return absl::DataLossError(absl::StrCat("cannot write the answer: ", std::strerror(errno)));
}

}  // namespace syncnorm::server
