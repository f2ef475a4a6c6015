#include "server/ctl_top_frame.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "server/ctl_text.h"

namespace syncnorm::server {
namespace {

// A group's name is cut to that: the table fits 80 columns.
constexpr size_t kGroupWidth = 20;
// Lines of each section while another one wants the room: its heading and two of its own.
constexpr size_t kLeastSection = 3;

using Lines = std::vector<std::string>;

// A heading and lines, the most telling first.
struct Section {
  std::string heading;
  Lines lines;
  std::string what;  // "groups": of which more were left out

  // With an empty line before it.
  size_t size() const { return lines.empty() ? 0 : lines.size() + 2; }
};

struct Late {
  const v1::GroupReport* group;
  const v1::MemberReport* member;

  bool there() const { return member->state() == "here"; }
  // Seconds that the group waited for it as the last one, near enough, per second.
  double weight() const { return member->recent_late_mean_s() * member->recent_last(); }
};

// Who is not there, then who is late, the latest first.
std::vector<Late> WhoIsLate(const v1::VitalsReply& vitals) {
  std::vector<Late> all;
  for (const v1::GroupReport& group : vitals.groups()) {
    for (const v1::MemberReport& member : group.members()) {
      const Late late{&group, &member};
      if (!late.there() || member.recent_last() > 0) all.push_back(late);
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Late& one, const Late& two) {
    if (one.there() != two.there()) return two.there();
    return one.weight() > two.weight();
  });
  return all;
}

std::string GroupName(const v1::GroupReport& group) {
  return Left(Cut(Plain(group.name()), kGroupWidth), kGroupWidth);
}

Section Groups(const v1::VitalsReply& vitals) {
  Section section;
  section.heading = absl::StrCat(Left("group", kGroupWidth),
                                 "  epoch  state    here/of  rounds/s        p50        p99");
  section.what = "groups";
  std::vector<const v1::GroupReport*> groups;
  for (const v1::GroupReport& group : vitals.groups()) groups.push_back(&group);
  // The busiest first.
  std::stable_sort(groups.begin(), groups.end(), [](const auto* one, const auto* two) {
    return one->recent().rounds_per_s() > two->recent().rounds_per_s();
  });
  for (const v1::GroupReport* group : groups) {
    const v1::RecentReport& recent = group->recent();
    section.lines.push_back(absl::StrFormat(
        "%s  %5.0f  %-7s  %7s  %8.1f  %9s  %9s", GroupName(*group), group->epoch(), group->state(),
        HereOf(*group), recent.rounds_per_s(), recent.has_p50_s() ? Time(recent.p50_s()) : "-",
        recent.has_p99_s() ? Time(recent.p99_s()) : "-"));
  }
  return section;
}

Section WhoIsLateSection(const v1::VitalsReply& vitals) {
  Section section;
  section.heading =
      absl::StrCat(Left("who is late", kGroupWidth), "   rank    last       mean  state    host");
  section.what = "members";
  for (const Late& late : WhoIsLate(vitals)) {
    const v1::MemberReport& member = *late.member;
    section.lines.push_back(absl::StrFormat(
        "%s  %5d  %5.1f%%  %9s  %-7s  %s pid %d", GroupName(*late.group), member.rank(),
        Share(member.recent_last(), member.recent_rounds()), Time(member.recent_late_mean_s()),
        member.state(), Plain(member.host()), member.pid()));
  }
  return section;
}

Section OpenRounds(const v1::VitalsReply& vitals) {
  Section section;
  section.heading = "open rounds";
  section.what = "open rounds";
  std::vector<std::pair<double, std::string>> rounds;
  for (const v1::GroupReport& group : vitals.groups()) {
    for (const v1::OpenRoundReport& round : group.open()) {
      rounds.emplace_back(
          round.open_s(),
          absl::StrCat(GroupName(group), "  for ", Time(round.open_s()), ": waits for ",
                       RankList(round.missing(), round.missing_count()), ": ",
                       Describe(round.key())));
    }
  }
  std::stable_sort(rounds.begin(), rounds.end(),
                   [](const auto& one, const auto& two) { return one.first > two.first; });
  for (auto& [open_s, line] : rounds) section.lines.push_back(std::move(line));
  return section;
}

Section Failures(const v1::VitalsReply& vitals) {
  Section section;
  section.heading = "last failures";
  section.what = "failures";
  for (const v1::FailureReport& failure : vitals.failures()) {
    section.lines.push_back(
        absl::StrCat(Right(Time(failure.ended_s()), 9), " ago  ", Plain(failure.text())));
  }
  return section;
}

// Heading lines, with what concerns the coordinator as a whole.
Lines Head(const std::string& address, const v1::VitalsReply& vitals) {
  const v1::StatusReply& status = vitals.status();
  double rounds_per_s = 0;
  for (const v1::GroupReport& group : vitals.groups()) {
    rounds_per_s += group.recent().rounds_per_s();
  }
  Lines lines;
  lines.push_back(absl::StrCat("syncnorm ", vitals.version(), " at ", address, ", up ",
                               Time(vitals.up_s()), vitals.draining() ? ", DRAINING" : "",
                               vitals.security().insecure() ? ", INSECURE" : ""));
  lines.push_back(absl::StrFormat(
      "%d groups, %d members, %.1f rounds/s; %.0f open; %.0f complete, %.0f failed, %.0f "
      "stragglers",
      status.groups(), status.members(), rounds_per_s, status.open_rounds(),
      status.rounds_completed(), status.rounds_failed(), status.stragglers()));
  if (vitals.groups_left_out() > 0) {
    lines.push_back(absl::StrCat(vitals.groups_left_out(), " groups left out; see --group"));
  }
  return lines;
}

// Shortens the sections until they fit: always the longest, so that none loses its place.
void Fit(size_t height, std::vector<Section*> sections) {
  std::vector<size_t> kept;
  for (const Section* section : sections) kept.push_back(section->lines.size());
  const auto total = [&] {
    size_t lines = 0;
    for (size_t i = 0; i < sections.size(); ++i) {
      if (kept[i] > 0) lines += kept[i] + 2;
    }
    return lines;
  };
  while (total() > height) {
    const auto longest = std::max_element(kept.begin(), kept.end());
    if (*longest >= kLeastSection) {
      --*longest;
      continue;
    }
    // No room for all of them: the last ones go.
    const auto last = std::find_if(kept.rbegin(), kept.rend(), [](size_t n) { return n > 0; });
    if (last == kept.rend()) break;
    *last = 0;
  }
  for (size_t i = 0; i < sections.size(); ++i) {
    Section& section = *sections[i];
    const size_t all = section.lines.size();
    if (kept[i] == all) continue;
    section.lines.resize(kept[i]);
    if (kept[i] > 0) {
      section.lines.back() = absl::StrCat("... ", all - kept[i] + 1, " more ", section.what);
    }
  }
}

std::string Join(const Lines& lines, const FrameSize& size) {
  std::string text;
  for (size_t i = 0; i < lines.size() && i < size.height; ++i) {
    absl::StrAppend(&text, Cut(lines[i], size.width), "\n");
  }
  return text;
}

}  // namespace

std::string TopFrame(const std::string& address, const v1::VitalsReply& vitals,
                     const FrameSize& size) {
  Lines lines = Head(address, vitals);
  Section groups = Groups(vitals);
  Section late = WhoIsLateSection(vitals);
  Section open = OpenRounds(vitals);
  Section failures = Failures(vitals);
  const std::vector<Section*> sections = {&groups, &late, &open, &failures};
  Fit(size.height - std::min(size.height, lines.size()), sections);
  for (const Section* section : sections) {
    if (section->lines.empty()) continue;
    lines.emplace_back();
    lines.push_back(section->heading);
    lines.insert(lines.end(), section->lines.begin(), section->lines.end());
  }
  return Join(lines, size);
}

std::string TopFrameWithout(const std::string& why, double tries_again_s, const FrameSize& size) {
  return Join(
      {absl::StrCat("cannot reach ", why), absl::StrCat("tries again every ", Time(tries_again_s))},
      size);
}

}  // namespace syncnorm::server
