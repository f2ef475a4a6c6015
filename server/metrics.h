// Metrics: a coordinator's vitals as Prometheus reads them (text format 0.0.4).
// What each means stands in its HELP line and in docs/metrics.md.
//
// Callers may rely on:
//   * Bounds.  At most kGroups values of the label `group`, kRanks of `group` and `rank` together
//     and kLayers of `group` and `layer`.  What is beyond is told as one, with the label's value
//     kOthers: counters summed, gauges the largest.  Which are told apart goes by age: a series
//     that is there stays until its group ends.
//   * One life.  Counters of a group begin at 0 when a group of its name forms, which Prometheus
//     takes for a restart; those without the label `group` go on.
//
// Thread-safety: may be called concurrently.
#pragma once

#include <cstddef>
#include <string>

#include "server/vitals.h"

namespace syncnorm::server {

struct MetricLimits {
  // With 40 series each, of which 18 are the durations' buckets, and what follows, that is below
  // 12,000 series: a megabyte of text, which Prometheus reads every 15 s without being noticed.
  size_t groups = 64;
  size_t ranks = 1024;
  size_t layers = 1024;
};
constexpr char kOthers[] = "(others)";

std::string MetricsText(const Vitals& vitals, const MetricLimits& limits = {});

}  // namespace syncnorm::server
