// Report: who waited for whom and what the last rounds were, of some groups, as
// plain values: what the core hands out, and the shell makes a message and a
// file of (service_report.h).  admin.proto says what each field means.
//
// Bounded: lists of ranks are cut to kListedRanks and come with their number;
// a layer names the kListedLasts ranks that were last most often.
//
// Thread-safety: plain values.
#pragma once

#include <syncnorm/round_key.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/drift.h"
#include "server/flight_recorder.h"
#include "server/lateness.h"
#include "server/round_counters.h"
#include "server/timeline.h"

namespace syncnorm::server {

struct Report {
  static constexpr size_t kListedRanks = FlightRecorder::kListedRanks;
  // One rank is at fault, or two; when it is all of them, three show that as well.
  static constexpr size_t kListedLasts = 3;

  // A round or a group that failed.
  struct Failure {
    absl::Time ended;
    std::string group;
    std::string text;
  };
  struct Member {
    uint32_t rank = 0;
    std::string state;  // "absent", "here", "left", "lost"
    std::string host;
    uint32_t pid = 0;
    absl::Duration heard;  // ago; InfiniteDuration: never
    Lateness::Rank lateness;
    Timeline::Rank recent;
  };
  struct Last {
    uint32_t rank = 0;
    uint64_t rounds = 0;
  };
  struct Layer {
    std::string name;
    Direction direction = Direction::kNone;
    uint64_t rounds = 0;
    absl::Duration wait;
    absl::Duration max;
    std::vector<Last> last;
    std::optional<Drift::Entry> drift;
  };
  struct OpenRound {
    RoundKey key;
    absl::Duration open;
    std::vector<uint32_t> contributed;
    uint32_t contributed_count = 0;
    std::vector<uint32_t> missing;
    uint32_t missing_count = 0;
  };
  struct Group {
    std::string name;
    uint64_t epoch = 0;  // 0 while it forms
    std::string state;   // "forming", "running", "leaving", "closed"
    std::vector<Member> members;
    std::vector<Layer> layers;
    Layer other_layers;
    std::vector<OpenRound> open;                // the oldest first
    std::vector<FlightRecorder::Entry> rounds;  // the latest first
    RoundCounters counters;
    Timeline::Bin recent;                 // without its ranks, which are the members'
    std::vector<Timeline::Bin> timeline;  // the oldest first; if it was wanted
  };

  std::string why;  // it was made
  uint64_t coordinator_id = 0;
  absl::Time now;  // monotonic: what the rounds' times are held against
  std::vector<Group> groups;
  uint32_t groups_left_out = 0;  // did not fit
};

}  // namespace syncnorm::server
