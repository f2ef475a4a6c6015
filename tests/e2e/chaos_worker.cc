// chaos_worker: the program around Trainer (trainer.h), for tests that start, stop and kill
// real processes.  Exit status 0: all steps done and left in good order; 1: failed, and said
// how.

#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "tests/e2e/trainer.h"

ABSL_FLAG(std::string, address, "", "the coordinator's; empty: SYNCNORM_ADDR");
ABSL_FLAG(std::string, group, "world", "name of the group");
ABSL_FLAG(int, rank, 0, "this worker's");
ABSL_FLAG(int, world, 1, "number of workers");
ABSL_FLAG(std::string, host, "h0", "host to say at the join");
ABSL_FLAG(std::string, job, "", "job to say at the join");
ABSL_FLAG(absl::Duration, connect_timeout, absl::Seconds(20), "for all members to join");
ABSL_FLAG(absl::Duration, round_timeout, absl::Seconds(20), "of a round");
ABSL_FLAG(std::string, on_loss, "fail", "policy: fail, shrink or finish");
ABSL_FLAG(std::string, non_finite, "fail", "policy: fail, propagate or drop");
ABSL_FLAG(uint64_t, seed, 1, "of the moments");
ABSL_FLAG(uint64_t, steps, 10, "steps");
ABSL_FLAG(int, layers, 4, "layers; two rounds each a step");
ABSL_FLAG(int64_t, channels, 16, "channels of every layer");
ABSL_FLAG(int, window, 0, "rounds under way at once; 0: every call waits");
ABSL_FLAG(absl::Duration, compute, absl::ZeroDuration(), "time between two rounds");
ABSL_FLAG(std::string, history, "", "file to append the history to");
ABSL_FLAG(bool, progress, false, "say every step");
ABSL_FLAG(bool, go_on, false, "go on with the next round when one failed");
ABSL_FLAG(absl::Duration, rejoin, absl::ZeroDuration(),
          "how long to try to join again after a membership failure");
ABSL_FLAG(int64_t, skip_at, -1, "step from which the first layer is left out");
ABSL_FLAG(int64_t, swap_at, -1, "step from which the first two layers are exchanged");
ABSL_FLAG(int64_t, widen_at, -1, "step from which there are twice as many channels");
ABSL_FLAG(int64_t, hang_at, -1, "step before which the program hangs for ever");

namespace syncnorm::e2e {
namespace {

std::optional<uint64_t> StepOrNever(int64_t step) {
  return step < 0 ? std::nullopt : std::optional<uint64_t>(static_cast<uint64_t>(step));
}

template <typename Policy>
Policy ParseOrDie(const char* flag, const std::string& text,
                  std::initializer_list<Policy> policies) {
  for (const Policy policy : policies) {
    if (text == Name(policy)) return policy;
  }
  std::fprintf(stderr, "--%s=%s: no such policy\n", flag, text.c_str());
  std::exit(2);
}

TrainerOptions OptionsFromFlags() {
  TrainerOptions options;
  GroupOptions& group = options.group;
  group.address = absl::GetFlag(FLAGS_address);
  group.group = absl::GetFlag(FLAGS_group);
  group.rank = absl::GetFlag(FLAGS_rank);
  group.world_size = absl::GetFlag(FLAGS_world);
  group.host = absl::GetFlag(FLAGS_host);
  group.job = absl::GetFlag(FLAGS_job);
  group.connect_timeout = absl::GetFlag(FLAGS_connect_timeout);
  group.round_timeout = absl::GetFlag(FLAGS_round_timeout);
  group.on_loss = ParseOrDie<OnLoss>("on_loss", absl::GetFlag(FLAGS_on_loss),
                                     {OnLoss::kFail, OnLoss::kShrink, OnLoss::kFinish});
  group.non_finite =
      ParseOrDie<NonFinite>("non_finite", absl::GetFlag(FLAGS_non_finite),
                            {NonFinite::kFail, NonFinite::kPropagate, NonFinite::kDrop});
  options.workload.seed = absl::GetFlag(FLAGS_seed);
  options.workload.channels = absl::GetFlag(FLAGS_channels);
  options.history = absl::GetFlag(FLAGS_history);
  options.steps = absl::GetFlag(FLAGS_steps);
  options.layers = absl::GetFlag(FLAGS_layers);
  options.window = absl::GetFlag(FLAGS_window);
  options.compute = absl::GetFlag(FLAGS_compute);
  options.progress = absl::GetFlag(FLAGS_progress);
  options.go_on = absl::GetFlag(FLAGS_go_on);
  options.rejoin = absl::GetFlag(FLAGS_rejoin);
  options.skip_at = StepOrNever(absl::GetFlag(FLAGS_skip_at));
  options.swap_at = StepOrNever(absl::GetFlag(FLAGS_swap_at));
  options.widen_at = StepOrNever(absl::GetFlag(FLAGS_widen_at));
  options.hang_at = StepOrNever(absl::GetFlag(FLAGS_hang_at));
  return options;
}

// A library leaves the process's signals as they were.
void SayHowSigpipeIsHandled() {
  struct sigaction action = {};
  sigaction(SIGPIPE, nullptr, &action);
  const char* how = "handled";
  if (action.sa_handler == SIG_DFL) how = "default";
  if (action.sa_handler == SIG_IGN) how = "ignored";
  std::printf("sigpipe %s\n", how);
}

}  // namespace
}  // namespace syncnorm::e2e

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  syncnorm::e2e::Trainer trainer(syncnorm::e2e::OptionsFromFlags());
  const int status = trainer.Run();
  syncnorm::e2e::SayHowSigpipeIsHandled();
  return status;
}
