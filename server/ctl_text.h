// How syncnormctl writes numbers, names and columns for people.
//
// Thread-safety: functions of their arguments.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "syncnorm/v1/admin.pb.h"

namespace syncnorm::server {

// "40 us", "12.3 ms", "1.5 s", "12 min", "3.2 h", "12 days".
std::string Time(double seconds);

// Per cent; 0 of nothing.
double Share(double part, double whole);

// Filled up with spaces.  The width is counted in characters, where printf counts bytes.
std::string Left(std::string text, size_t width);
std::string Right(std::string text, size_t width);
// At most `width` characters of a line; one that was cut ends with "~".
std::string Cut(absl::string_view line, size_t width);

// Peers choose names: nothing in them may steer a terminal.
std::string Plain(std::string text);

// "rank 1", "ranks 1,2,... (1000)", "none".
template <typename Ranks>
std::string RankList(const Ranks& ranks, uint32_t count) {
  if (count == 0) return "none";
  std::string text = absl::StrCat(count == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ","));
  if (count > static_cast<uint32_t>(ranks.size())) absl::StrAppend(&text, ",... (", count, ")");
  return text;
}

// "round 42 bn2 (forward, step 7)"
std::string Describe(const v1::RoundReportKey& key);

// Members that are there, and how many there are: "3/4".
std::string HereOf(const v1::GroupReport& group);

// "2 groups left out; ask for them with --group", if there are some.
std::string LeftOut(uint32_t groups);

// Writes it all, now.  0, or an error that says that it cannot be written.
absl::StatusOr<int> Print(absl::string_view text, std::FILE* out);

}  // namespace syncnorm::server
