// bench_latency: how long a round takes, and what it costs in CPU time, beside
// the floor and the peers.  bench/README.md says how to read its numbers.
//
// Every repetition visits every cell, in a new random order, and in each cell
// runs every lane, in a new random order; so a lane's run and the floor that it
// is divided by are seconds apart, and slow moments of the machine fall on all
// lanes alike.
//
// Exit status: 0 all that ran was verified; 1 a run failed or gave a wrong
// result; 2 the command line is wrong; 130 interrupted.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/latency/cell.h"
#include "bench/latency/lane.h"
#include "bench/latency/place.h"
#include "bench/latency/process.h"
#include "bench/latency/report.h"

ABSL_FLAG(std::vector<std::string>, workers, {},
          "numbers of workers; default 2,4,8, and 8 on a netlab");
ABSL_FLAG(std::vector<std::string>, channels, {}, "numbers of channels; default 64,256,2048");
ABSL_FLAG(std::vector<std::string>, lanes, {},
          "of tcp_star, syncnorm, gloo, gloo_bcube, openmpi_tcp, openmpi_shm; default all; "
          "tcp_star always runs, as the floor");
ABSL_FLAG(int, rounds, 0,
          "timed rounds of a run, after a tenth of them as warm-up; default: what fits in two "
          "seconds, 100 to 2000");
ABSL_FLAG(int, repetitions, 0, "runs of every lane in every cell; default 5");
ABSL_FLAG(bool, quick, false, "a smoke test: 2 workers, 64 and 256 channels, 100 rounds, once");
ABSL_FLAG(std::string, network, "loopback", "loopback, or netlab: every process on its own host");
ABSL_FLAG(std::string, netlab, "", "the script that makes the network (default: $SYNCNORM_NETLAB)");
ABSL_FLAG(int, delay_us, 250, "one-way delay between two hosts of the netlab");
ABSL_FLAG(std::string, json, "", "also write the results to this file");
ABSL_FLAG(uint64_t, seed, 0, "of the order of the runs; default: a random one, printed");

namespace syncnorm::bench {
namespace {

// 2000 rounds leave 20 beyond the p99; 100 leave one, for lanes whose rounds
// take milliseconds.
constexpr int kMostRounds = 2000;
constexpr int kFewestRounds = 100;
constexpr absl::Duration kRunTime = absl::Seconds(2);

// Ends a lane that hangs.  2200 rounds at 16 ms, the slowest p50 seen of a lane whose trial run
// was fast (two ranks that spin, put on one core later), take 35 s; and as much again twice.
constexpr absl::Duration kRunTimeout = absl::Seconds(120);

struct Settings {
  std::vector<int> workers;
  std::vector<int64_t> channels;
  std::vector<const Lane*> lanes;  // the floor first
  int rounds = 0;                  // 0: by the time they take
  int repetitions = 0;
  uint64_t seed = 0;
};

// ---- a process of a run ----

absl::Status RunRole(const char* argument) {
  absl::StatusOr<RoleOptions> options = ParseRoleArgument(argument);
  if (!options.ok()) return options.status();
  const Lane* lane = FindLane(options->lane);
  if (lane == nullptr) return absl::InvalidArgumentError("no such lane");
  if (options->role == "coordinator") return lane->Coordinate(*options);
  absl::StatusOr<std::unique_ptr<WorkerEnd>> end = lane->Connect(*options);
  if (!end.ok()) return end.status();
  return RunWorker(*options, end->get());
}

// ---- the harness ----

template <typename T>
absl::StatusOr<std::vector<T>> Numbers(const std::vector<std::string>& words, T most,
                                       std::vector<T> otherwise) {
  if (words.empty()) return otherwise;
  std::vector<T> numbers;
  for (const std::string& word : words) {
    T number;
    if (!absl::SimpleAtoi(word, &number) || number < 1 || number > most) {
      return absl::InvalidArgumentError(absl::StrCat("'", word, "' is not in 1..", most));
    }
    numbers.push_back(number);
  }
  return numbers;
}

absl::StatusOr<Settings> SettingsFromFlags(bool netlab) {
  const bool quick = absl::GetFlag(FLAGS_quick);
  Settings settings;

  std::vector<int> workers = {2, 4, 8};
  if (netlab) workers = {8};
  if (quick) workers = {2};
  // 64: what CheckMoments allows for (workload.h).
  absl::StatusOr<std::vector<int>> some_workers =
      Numbers<int>(absl::GetFlag(FLAGS_workers), 64, workers);
  if (!some_workers.ok()) return some_workers.status();
  settings.workers = *some_workers;

  std::vector<int64_t> channels = {64, 256, 2048};
  if (quick) channels = {64, 256};
  absl::StatusOr<std::vector<int64_t>> some_channels =
      Numbers<int64_t>(absl::GetFlag(FLAGS_channels), 65536, channels);
  if (!some_channels.ok()) return some_channels.status();
  settings.channels = *some_channels;

  const std::vector<std::string> wanted = absl::GetFlag(FLAGS_lanes);
  for (const std::string& name : wanted) {
    if (FindLane(name) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("no lane '", name, "'"));
    }
  }
  for (const auto& lane : AllLanes()) {
    if (settings.lanes.empty() || wanted.empty() ||
        std::find(wanted.begin(), wanted.end(), lane->name()) != wanted.end()) {
      settings.lanes.push_back(lane.get());
    }
  }

  settings.rounds = absl::GetFlag(FLAGS_rounds);
  settings.repetitions = absl::GetFlag(FLAGS_repetitions);
  if (settings.rounds < 0 || settings.repetitions < 0) {
    return absl::InvalidArgumentError("--rounds and --repetitions are positive");
  }
  if (settings.rounds == 0 && quick) settings.rounds = 100;
  if (settings.repetitions == 0) settings.repetitions = quick ? 1 : 5;

  settings.seed = absl::GetFlag(FLAGS_seed);
  if (settings.seed == 0) settings.seed = std::random_device{}();
  return settings;
}

int WarmupRounds(int rounds) { return std::max(rounds / 10, 1); }

// All series, cell by cell and lane by lane, still without samples.
std::vector<Series> Plan(const Settings& settings, const Place& place) {
  std::vector<const Lane*> lanes;
  for (const Lane* lane : settings.lanes) {
    const absl::Status available = lane->Available(place);
    if (available.ok()) {
      lanes.push_back(lane);
    } else {
      absl::PrintF("SKIPPED lane %s on %s: %s\n", lane->name(), place.name(), available.message());
    }
  }
  std::vector<Series> all;
  for (const int workers : settings.workers) {
    for (const int64_t channels : settings.channels) {
      const int rounds = settings.rounds == 0 ? kFewestRounds : settings.rounds;
      for (const Lane* lane : lanes) {
        Series series;
        series.lane = lane->name();
        series.network = place.name();
        series.cell = {.workers = workers,
                       .channels = channels,
                       .warmup_rounds = WarmupRounds(rounds),
                       .rounds = rounds};
        series.payload_bytes = lane->PayloadBytes(channels);
        all.push_back(std::move(series));
      }
    }
  }
  return all;
}

// One run of every lane of one cell (`lanes`, the floor first), in random order.
void RunOnceEach(absl::Span<Series> lanes, const Place& place, const std::string& dir,
                 std::mt19937_64* random) {
  std::vector<size_t> order(lanes.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), *random);
  std::vector<absl::StatusOr<Sample>> samples(lanes.size());
  for (const size_t i : order) {
    if (Interrupted()) return;
    samples[i] = RunCell(*FindLane(lanes[i].lane), lanes[i].cell, place,
                         absl::StrCat(dir, "/", lanes[i].lane), kRunTimeout);
    if (samples[i].ok() || Interrupted()) continue;
    absl::FPrintF(stderr, "FAILED %s, %d workers, %d channels: %s\n", lanes[i].lane,
                  lanes[i].cell.workers, lanes[i].cell.channels, samples[i].status().ToString());
  }
  for (size_t i = 0; i < lanes.size(); ++i) {
    if (!samples[i].ok() || !samples[0].ok()) {
      lanes[i].verified = false;
      continue;
    }
    lanes[i].samples.push_back(*samples[i]);
    lanes[i].floor.push_back(*samples[0]);
  }
}

// Sets the number of rounds of every series by a short run, which is no sample.
// A run that fails fails again when it is measured, and is reported then.
void ChooseRounds(const Place& place, const std::string& dir, std::vector<Series>* all) {
  for (size_t i = 0; i < all->size() && !Interrupted(); ++i) {
    Cell& cell = (*all)[i].cell;
    const absl::StatusOr<Sample> trial = RunCell(*FindLane((*all)[i].lane), cell, place,
                                                 absl::StrCat(dir, "/trial.", i), kRunTimeout);
    if (!trial.ok()) continue;
    const double fit = absl::ToDoubleMicroseconds(kRunTime) / trial->wall_us_per_round;
    cell.rounds = static_cast<int>(std::clamp<double>(fit, kFewestRounds, kMostRounds));
    cell.warmup_rounds = WarmupRounds(cell.rounds);
  }
}

// Every repetition of every series.
void Measure(const Settings& settings, const Place& place, const std::string& dir,
             std::vector<Series>* all) {
  const size_t cells = settings.workers.size() * settings.channels.size();
  const size_t lanes = all->size() / cells;
  std::mt19937_64 random(settings.seed);
  std::vector<size_t> order(cells);
  for (size_t i = 0; i < cells; ++i) order[i] = i;
  for (int repetition = 0; repetition < settings.repetitions; ++repetition) {
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t cell : order) {
      if (Interrupted()) return;
      RunOnceEach(absl::MakeSpan(*all).subspan(cell * lanes, lanes), place,
                  absl::StrCat(dir, "/", repetition, ".", cell), &random);
    }
  }
}

int Fail(const absl::Status& status, int exit_status) {
  absl::FPrintF(stderr, "bench_latency: %s\n", status.ToString());
  return exit_status;
}

int RunHarness() {
  const std::string network = absl::GetFlag(FLAGS_network);
  if (network != "loopback" && network != "netlab") {
    return Fail(absl::InvalidArgumentError("--network is loopback or netlab"), 2);
  }
  const bool netlab = network == "netlab";
  absl::StatusOr<Settings> settings = SettingsFromFlags(netlab);
  if (!settings.ok()) return Fail(settings.status(), 2);

  CatchSignals();
  std::string dir = (std::filesystem::temp_directory_path() / "bench_latency.XXXXXX").string();
  if (mkdtemp(dir.data()) == nullptr) return Fail(absl::ErrnoToStatus(errno, dir), 1);
  const absl::Cleanup remove_dir = [&dir] { std::filesystem::remove_all(dir); };

  std::unique_ptr<Place> place = MakeLoopback();
  if (netlab) {
    std::string script = absl::GetFlag(FLAGS_netlab);
    if (const char* from_env = std::getenv("SYNCNORM_NETLAB");
        script.empty() && from_env != nullptr) {
      script = from_env;
    }
    const int hosts = 1 + *std::max_element(settings->workers.begin(), settings->workers.end());
    absl::StatusOr<std::unique_ptr<Place>> made =
        MakeNetlab(script, hosts, absl::Microseconds(absl::GetFlag(FLAGS_delay_us)), dir);
    if (absl::IsFailedPrecondition(made.status())) {
      absl::PrintF("SKIPPED all lanes on netlab: %s\n", made.status().message());
      return 0;
    }
    if (!made.ok()) return Fail(made.status(), 1);
    place = *std::move(made);
  }

  std::vector<Series> all = Plan(*settings, *place);
  absl::PrintF("latency of a round on %s%s; median of %d repetitions; seed %d\n", network,
               netlab ? absl::StrCat(", ", absl::GetFlag(FLAGS_delay_us), " us one way") : "",
               settings->repetitions, settings->seed);
  std::fflush(stdout);
  if (settings->rounds == 0) ChooseRounds(*place, dir, &all);
  Measure(*settings, *place, dir, &all);
  place.reset();  // takes a network down before the results, which may be long
  if (Interrupted()) return 130;

  absl::PrintF("%s", Table(all));
  if (const std::string path = absl::GetFlag(FLAGS_json); !path.empty()) {
    if (absl::Status status = WriteJson(all, path); !status.ok()) return Fail(status, 1);
  }
  const bool verified =
      std::all_of(all.begin(), all.end(), [](const Series& series) { return series.verified; });
  return verified ? 0 : 1;
}

}  // namespace
}  // namespace syncnorm::bench

int main(int argc, char** argv) {
  if (argc == 2 && absl::StartsWith(argv[1], "--role=")) {
    const absl::Status status = syncnorm::bench::RunRole(argv[1]);
    return status.ok() ? 0 : syncnorm::bench::Fail(status, 1);
  }
  absl::SetProgramUsageMessage(
      "measures the latency and the CPU time of a round beside a floor and peers");
  absl::ParseCommandLine(argc, argv);
  return syncnorm::bench::RunHarness();
}
