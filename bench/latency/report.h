// From samples to the tables and the JSON that the benchmark prints.
//
// Thread-safety: plain values and pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "bench/latency/cell.h"

namespace syncnorm::bench {

// Every repetition of one lane in one cell, beside the floor of the same
// repetitions.
struct Series {
  std::string lane;
  std::string network;
  Cell cell;
  int64_t payload_bytes = 0;
  std::vector<Sample> samples;
  std::vector<Sample> floor;  // floor[i] ran next to samples[i]
  bool verified = true;       // false: a run failed; no number of this series counts
};

// Medians over the repetitions; a ratio is the median of the ratios within one
// repetition.
struct Row {
  double p50_us = 0, p50_min_us = 0, p50_max_us = 0;
  double p99_us = 0;
  double wall_us_per_round = 0;
  double client_cpu_us_per_round = 0;
  // One worker's CPU for a round, and the coordinator's for its contribution.
  double total_cpu_us_per_contribution = 0;
  double ratio_to_floor = 0;
  double total_cpu_ratio_to_floor = 0;
  // Nothing in a lane without a coordinator.
  std::optional<double> cpu_us_per_contribution;
  std::optional<double> cpu_ratio_to_floor;
};

// `series` has samples.
Row Summarise(const Series& series);

// An aligned table for people.
std::string Table(const std::vector<Series>& all);

// A JSON list with one object per series.  kInternal if the file cannot be written.
absl::Status WriteJson(const std::vector<Series>& all, const std::string& path);

}  // namespace syncnorm::bench
