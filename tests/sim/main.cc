// syncnorm-sim: runs seeds of the simulator.
//
//   syncnorm-sim --seed=17 [--verbose]       one seed; with its log
//   syncnorm-sim --seeds=1..300              a range
//   syncnorm-sim --seconds=60                fresh seeds, from a base that is printed
//   syncnorm-sim --regressions               the seeds that once failed
//
// --rounds=N sets how long each is; --least_rounds=N goes on until so many rounds have
// completed; --mutation=NAME plants a bug.  Exit status 1 when a seed violates an invariant: its
// last events, and the one command that runs it again, are printed.
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tests/sim/regressions.h"
#include "tests/sim/world.h"

namespace syncnorm::sim {
namespace {

struct Options {
  uint64_t first = 1, last = 0;
  uint64_t rounds = 0;
  uint64_t least_rounds = 0;
  int64_t seconds = 0;
  bool verbose = false;
  bool regressions = false;
  Mutation mutation = Mutation::kNone;
};

[[noreturn]] void Usage() {
  std::fputs(
      "usage: syncnorm-sim --seed=N | --seeds=A..B | --seconds=S | --regressions\n"
      "       [--rounds=N] [--least_rounds=N] [--mutation=NAME] [--verbose]\n",
      stderr);
  std::exit(2);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    absl::string_view text = argv[i];
    bool good = true;
    if (absl::ConsumePrefix(&text, "--seed=")) {
      good = absl::SimpleAtoi(text, &options.first);
      options.last = options.first;
    } else if (absl::ConsumePrefix(&text, "--seeds=")) {
      const std::vector<std::string> ends = absl::StrSplit(text, "..");
      good = ends.size() == 2 && absl::SimpleAtoi(ends[0], &options.first) &&
             absl::SimpleAtoi(ends[1], &options.last);
    } else if (absl::ConsumePrefix(&text, "--seconds=")) {
      good = absl::SimpleAtoi(text, &options.seconds);
    } else if (absl::ConsumePrefix(&text, "--rounds=")) {
      good = absl::SimpleAtoi(text, &options.rounds);
    } else if (absl::ConsumePrefix(&text, "--least_rounds=")) {
      good = absl::SimpleAtoi(text, &options.least_rounds);
    } else if (absl::ConsumePrefix(&text, "--mutation=")) {
      const auto mutation = FindMutation(std::string_view(text.data(), text.size()));
      good = mutation.has_value();
      if (good) options.mutation = *mutation;
    } else if (text == "--regressions") {
      options.regressions = true;
    } else if (text == "--verbose") {
      options.verbose = true;
    } else {
      good = false;
    }
    if (!good) Usage();
  }
  if (options.last < options.first && options.seconds == 0 && options.least_rounds == 0 &&
      !options.regressions) {
    Usage();
  }
  return options;
}

struct Total {
  uint64_t seeds = 0, rounds = 0, failed_rounds = 0, failed_memberships = 0, runs = 0, events = 0;
  absl::Duration virtual_time;
  Faults faults;
};

void Add(const RunResult& run, Total* total) {
  ++total->seeds;
  total->rounds += run.tally.rounds;
  total->failed_rounds += run.tally.failed_rounds;
  total->failed_memberships += run.tally.failed_memberships;
  total->runs += run.tally.runs;
  total->events += run.events;
  total->virtual_time += run.lasted;
  total->faults.Add(run.faults);
}

void Print(const Total& total, double seconds) {
  const Faults& f = total.faults;
  std::printf("%" PRIu64 " seeds, %" PRIu64 " rounds with a result, %" PRIu64 " failed, %" PRIu64
              " runs of groups, %" PRIu64 " memberships or joins failed, %" PRIu64 " events\n",
              total.seeds, total.rounds, total.failed_rounds, total.runs, total.failed_memberships,
              total.events);
  std::printf("faults: coordinator %" PRIu64 " kills, %" PRIu64 " pauses, %" PRIu64
              " drains; workers %" PRIu64 " kills, %" PRIu64 " pauses, %" PRIu64
              " zombies; connections %" PRIu64 " breaks (%" PRIu64 " half-open), %" PRIu64
              " cuts; %" PRIu64 " contributions again; %" PRIu64 " strangers\n",
              f.coordinator_kills, f.coordinator_pauses, f.drains, f.worker_crashes,
              f.worker_pauses, f.zombies, f.breaks, f.half_open, f.cuts, f.repeats, f.strangers);
  std::printf("%.0f s of virtual time in %.1f s: %.0f rounds/s\n",
              absl::ToDoubleSeconds(total.virtual_time), seconds,
              static_cast<double>(total.rounds) / seconds);
}

// Whether it kept all invariants; otherwise says everything about it.
bool RunOne(const char* program, uint64_t seed, const Options& options, Total* total) {
  const Log::Level level = options.verbose ? Log::Level::kPrint : Log::Level::kOff;
  RunResult run = RunSeed(seed, options.rounds, level, options.mutation);
  Add(run, total);
  if (!run.violation.has_value()) return true;
  if (!options.verbose) {
    // The same again, with its log.
    run = RunSeed(seed, options.rounds, Log::Level::kKeep, options.mutation);
    for (const std::string& line : run.log) std::puts(line.c_str());
  }
  const std::string rounds = options.rounds == 0 ? "" : absl::StrCat(" --rounds=", options.rounds);
  const std::string_view mutation = Name(options.mutation);
  const std::string planted = options.mutation == Mutation::kNone
                                  ? ""
                                  : absl::StrCat(" --mutation=", std::string(mutation));
  std::printf("\nFAILED: seed %" PRIu64 " violates %s: %s\nreplay: %s --seed=%" PRIu64
              "%s%s --verbose\n",
              seed, run.violation->invariant.c_str(), run.violation->text.c_str(), program, seed,
              rounds.c_str(), planted.c_str());
  return false;
}

int Main(int argc, char** argv) {
  const Options options = Parse(argc, argv);
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  Total total;
  bool good = true;
  if (options.regressions) {
    for (const Regression& regression : Regressions()) {
      Options one = options;
      one.rounds = regression.rounds;
      good = RunOne(argv[0], regression.seed, one, &total);
      if (!good) {
        std::printf("it was: %s\n", std::string(regression.what).c_str());
        break;
      }
    }
  } else if (options.last >= options.first) {
    for (uint64_t seed = options.first; seed <= options.last && good; ++seed) {
      good = RunOne(argv[0], seed, options, &total);
    }
  } else {
    std::random_device random;
    uint64_t seed = uint64_t{random()} << 16;
    std::printf("fresh seeds from %" PRIu64 "\n", seed);
    std::fflush(stdout);
    while (good && (elapsed() < static_cast<double>(options.seconds) ||
                    total.rounds < options.least_rounds)) {
      good = RunOne(argv[0], seed++, options, &total);
    }
  }
  Print(total, elapsed());
  return good ? 0 : 1;
}

}  // namespace
}  // namespace syncnorm::sim

int main(int argc, char** argv) { return syncnorm::sim::Main(argc, argv); }
