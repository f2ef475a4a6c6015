#include "bench/kernels/report.h"

#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace syncnorm::bench {
namespace {

double Quantile(std::vector<double>* sorted, double q) {
  const double last = static_cast<double>(sorted->size() - 1);
  return (*sorted)[static_cast<size_t>(std::ceil(q * last))];
}

// CPU time of this thread: what others do with the CPU meanwhile does not count.
double NowMicros() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

double MicrosOf(const std::function<void()>& run) {
  const double begin = NowMicros();
  run();
  return NowMicros() - begin;
}

// Bytes per microsecond of the best copy.
double FloorSpeed(const std::vector<Variant>& variants) {
  double best = 0;
  for (const Variant& v : variants) {
    if (v.name.starts_with("copy_")) best = std::max(best, v.bytes / v.p50_us);
  }
  return best;
}

const Variant* Find(const std::vector<Variant>& variants, const std::string& name) {
  const auto at = std::find_if(variants.begin(), variants.end(),
                               [&](const Variant& v) { return v.name == name; });
  return name.empty() || at == variants.end() ? nullptr : &*at;
}

}  // namespace

void Measure(int repetitions, std::vector<Variant>* variants) {
  constexpr int kWarmUps = 2;
  std::vector<std::vector<double>> times(variants->size());
  for (int r = -kWarmUps; r < repetitions; ++r) {
    for (size_t v = 0; v < variants->size(); ++v) {
      const double us = MicrosOf((*variants)[v].run);
      if (r >= 0) times[v].push_back(us);
    }
  }
  for (size_t v = 0; v < variants->size(); ++v) {
    std::sort(times[v].begin(), times[v].end());
    (*variants)[v].p50_us = Quantile(&times[v], 0.5);
    (*variants)[v].p99_us = Quantile(&times[v], 0.99);
  }
}

void Report(const std::string& title, const std::vector<Variant>& variants,
            nlohmann::json* results) {
  const double floor_speed = FloorSpeed(variants);
  std::printf("\n%s\n  %-28s %10s %10s %8s %10s %12s\n", title.c_str(), "variant", "p50 us",
              "p99 us", "GB/s", "of floor", "vs PyTorch");
  for (const Variant& v : variants) {
    const double floor_us = v.bytes / floor_speed;
    nlohmann::json line = {{"bench", "kernels"},   {"variant", v.name},
                           {"params", v.params},   {"p50_us", v.p50_us},
                           {"p99_us", v.p99_us},   {"gb_per_s", v.bytes / v.p50_us / 1e3},
                           {"floor_us", floor_us}, {"ratio_to_floor", v.p50_us / floor_us}};
    std::printf("  %-28s %10.0f %10.0f %8.1f %9.0f%%", v.name.c_str(), v.p50_us, v.p99_us,
                v.bytes / v.p50_us / 1e3, 100 * floor_us / v.p50_us);
    if (const Variant* peer = Find(variants, v.peer)) {
      line["ratio_to_pytorch"] = v.p50_us / peer->p50_us;
      std::printf(" %10.2fx", peer->p50_us / v.p50_us);
    }
    std::printf("\n");
    results->push_back(line);
  }
}

}  // namespace syncnorm::bench
