#include "server/names.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace syncnorm::server {
namespace {

// Pieces of a list of ranks: 32 of at most 9 bytes ("1000-1023") keep a text below 300 bytes.
constexpr int kMaxPieces = 32;

}  // namespace

std::string Ranks(absl::Span<const uint32_t> ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  int pieces = 0;
  for (size_t i = 0; i < ranks.size();) {
    if (pieces == kMaxPieces) {
      absl::StrAppend(&text, ",... (", ranks.size(), " in all)");
      break;
    }
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (last < i + 2) last = i;  // two in a row read better as "0,1"
    if (pieces++ > 0) text += ',';
    absl::StrAppend(&text, ranks[i]);
    if (last > i) absl::StrAppend(&text, "-", ranks[last]);
    i = last + 1;
  }
  return text;
}

std::string Worker(uint32_t rank, absl::string_view host, uint32_t pid) {
  std::string text = absl::StrCat("rank ", rank);
  if (host.empty() && pid == 0) return text;
  text += " (";
  if (!host.empty()) absl::StrAppend(&text, "host ", host);
  if (!host.empty() && pid != 0) text += ", ";
  if (pid != 0) absl::StrAppend(&text, "pid ", pid);
  return text + ")";
}

std::string InSeconds(absl::Duration duration) {
  return absl::StrFormat("%.1f s", absl::ToDoubleSeconds(duration));
}

}  // namespace syncnorm::server
