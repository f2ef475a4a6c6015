#include "bench/latency/report.h"

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/latency/rounds.h"
#include "nlohmann/json.hpp"

namespace syncnorm::bench {
namespace {

double TotalCpu(const Sample& sample) {
  return sample.client_cpu_us_per_round + sample.coordinator_cpu_us_per_contribution;
}

double Median(const std::vector<double>& values) {
  // The mean of the two middle values when their number is even.
  return (Quantile(values, 0.5) + Quantile(values, 0.5 + 0.5 / values.size())) / 2;
}

template <typename Measure>
std::vector<double> Each(const std::vector<Sample>& samples, Measure measure) {
  std::vector<double> values;
  for (const Sample& sample : samples) values.push_back(measure(sample));
  return values;
}

template <typename Measure>
double MedianRatio(const Series& series, Measure measure) {
  std::vector<double> ratios;
  for (size_t i = 0; i < series.samples.size(); ++i) {
    ratios.push_back(measure(series.samples[i]) / measure(series.floor[i]));
  }
  return Median(ratios);
}

std::string OrDash(const std::optional<double>& value, absl::string_view suffix) {
  return value.has_value() ? absl::StrFormat("%.2f%s", *value, suffix) : "-";
}

nlohmann::json OrNull(const std::optional<double>& value) {
  return value.has_value() ? nlohmann::json(*value) : nlohmann::json(nullptr);
}

// Three digits or more of what is between 0.1 us (shared memory) and 100 ms.
std::string Us(double us) {
  return us < 100 ? absl::StrFormat("%.1f", us) : absl::StrFormat("%.0f", us);
}

}  // namespace

Row Summarise(const Series& series) {
  const auto p50 = [](const Sample& s) { return s.p50_us; };
  const auto coordinator = [](const Sample& s) { return s.coordinator_cpu_us_per_contribution; };
  const std::vector<double> p50s = Each(series.samples, p50);
  Row row;
  row.p50_us = Median(p50s);
  row.p50_min_us = *std::min_element(p50s.begin(), p50s.end());
  row.p50_max_us = *std::max_element(p50s.begin(), p50s.end());
  row.p99_us = Median(Each(series.samples, [](const Sample& s) { return s.p99_us; }));
  row.wall_us_per_round =
      Median(Each(series.samples, [](const Sample& s) { return s.wall_us_per_round; }));
  row.client_cpu_us_per_round =
      Median(Each(series.samples, [](const Sample& s) { return s.client_cpu_us_per_round; }));
  row.total_cpu_us_per_contribution = Median(Each(series.samples, TotalCpu));
  row.ratio_to_floor = MedianRatio(series, p50);
  row.total_cpu_ratio_to_floor = MedianRatio(series, TotalCpu);
  if (coordinator(series.samples[0]) > 0) {
    row.cpu_us_per_contribution = Median(Each(series.samples, coordinator));
    row.cpu_ratio_to_floor = MedianRatio(series, coordinator);
  }
  return row;
}

std::string Table(const std::vector<Series>& all) {
  std::string table = absl::StrFormat(
      "%3s  %5s  %-12s %6s  %8s  %-15s %8s %8s  %7s  | CPU us: %7s %7s  %7s  %7s %8s\n", "W", "C",
      "lane", "bytes", "p50 us", "(min..max)", "p99 us", "mean us", "ratio", "coord.", "ratio",
      "worker", "both", "ratio");
  const Series* previous = nullptr;
  for (const Series& series : all) {
    if (previous != nullptr && (previous->cell.workers != series.cell.workers ||
                                previous->cell.channels != series.cell.channels)) {
      table += "\n";
    }
    previous = &series;
    absl::StrAppendFormat(&table, "%3d  %5d  %-12s %6d  ", series.cell.workers,
                          series.cell.channels, series.lane, series.payload_bytes);
    if (!series.verified) {
      table += "FAILED: no number counts\n";
      continue;
    }
    const Row row = Summarise(series);
    absl::StrAppendFormat(
        &table, "%8s  %-15s %8s %8s  %6.2fx  |         %7s %7s  %7s  %7s %7.2fx\n", Us(row.p50_us),
        absl::StrCat("(", Us(row.p50_min_us), "..", Us(row.p50_max_us), ")"), Us(row.p99_us),
        Us(row.wall_us_per_round), row.ratio_to_floor, OrDash(row.cpu_us_per_contribution, ""),
        OrDash(row.cpu_ratio_to_floor, "x"), Us(row.client_cpu_us_per_round),
        Us(row.total_cpu_us_per_contribution), row.total_cpu_ratio_to_floor);
  }
  return table;
}

absl::Status WriteJson(const std::vector<Series>& all, const std::string& path) {
  nlohmann::json list = nlohmann::json::array();
  for (const Series& series : all) {
    nlohmann::json object = {{"bench", "latency"},
                             {"variant", series.lane},
                             {"network", series.network},
                             {"params",
                              {{"workers", series.cell.workers},
                               {"channels", series.cell.channels},
                               {"payload_bytes", series.payload_bytes},
                               {"rounds", series.cell.rounds},
                               {"repetitions", series.samples.size()}}},
                             {"verified", series.verified}};
    if (series.verified) {
      const Row row = Summarise(series);
      object["p50_us"] = row.p50_us;
      object["p50_min_us"] = row.p50_min_us;
      object["p50_max_us"] = row.p50_max_us;
      object["p99_us"] = row.p99_us;
      object["wall_us_per_round"] = row.wall_us_per_round;
      object["cpu_us_per_contribution"] = OrNull(row.cpu_us_per_contribution);
      object["client_cpu_us_per_round"] = row.client_cpu_us_per_round;
      object["total_cpu_us_per_contribution"] = row.total_cpu_us_per_contribution;
      object["ratio_to_floor"] = row.ratio_to_floor;
      object["cpu_ratio_to_floor"] = OrNull(row.cpu_ratio_to_floor);
      object["total_cpu_ratio_to_floor"] = row.total_cpu_ratio_to_floor;
    }
    list.push_back(object);
  }
  std::ofstream file(path);
  file << list.dump(2) << "\n";
  file.close();
  if (!file) return absl::InternalError(absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

}  // namespace syncnorm::bench
