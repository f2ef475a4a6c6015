// Timing and reporting: variants are run in turn, repetition by repetition, so
// that a disturbance of the machine meets all of them alike.  Times are CPU time
// of the calling thread, which does all the work.
//
// Thread-safety: none; one thread calls it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace syncnorm::bench {

struct Variant {
  std::string name;
  nlohmann::json params;
  double bytes = 0;  // moved at least: each input once per pass over it, each output once
  std::function<void()> run;
  std::string peer;  // the variant of PyTorch beside it, if any

  // Filled by Measure.
  double p50_us = 0;
  double p99_us = 0;
};

// Runs all variants `repetitions` times, after two runs to warm up.
void Measure(int repetitions, std::vector<Variant>* variants);

// The lines of one case: the floor is the fastest variant whose name begins with
// "copy_".  Prints them as a table, and appends them to `results`.
void Report(const std::string& title, const std::vector<Variant>& variants,
            nlohmann::json* results);

}  // namespace syncnorm::bench
