// The smallest program with syncnorm: every worker normalises four numbers by
// the mean and variance of the numbers of all workers.
//
//   for rank in 0 1; do
//     SYNCNORM_RANK=$rank SYNCNORM_WORLD_SIZE=2 SYNCNORM_ADDR=localhost:7070 ./syncnorm-hello &
//   done; wait
#include <syncnorm/batch_norm.h>
#include <syncnorm/embedded.h>
#include <syncnorm/group.h>

#include <cstdio>
#include <vector>

// Says what went wrong; the failure's details for programs stay out of it.
static int Fail(const absl::Status& status) {
  const auto text = status.ToString(absl::StatusToStringMode::kWithNoExtraData);
  std::fprintf(stderr, "%s\n", text.c_str());
  return 1;
}

int main() {
  auto options = syncnorm::GroupOptions::FromEnvironment();
  if (!options.ok()) return Fail(options.status());
  // No server needed: rank 0 carries the coordinator.
  options->coordinator_factory = syncnorm::StartEmbeddedCoordinator;
  auto group = syncnorm::Group::Connect(*options);
  if (!group.ok()) return Fail(group.status());

  auto norm = syncnorm::SyncBatchNorm::Create("norm", {.channels = 1}, group->get());
  const int rank = (*group)->rank();
  std::vector<float> x = {10.f * rank, 10.f * rank + 1, 10.f * rank + 2, 10.f * rank + 3}, y(4);
  const auto input = syncnorm::Contiguous(x.data(), syncnorm::DType::kF32, {4, 1});
  const auto output = syncnorm::Contiguous(y.data(), syncnorm::DType::kF32, {4, 1});
  const absl::Status status = (*norm)->Forward(input, nullptr, output, nullptr);
  if (!status.ok()) return Fail(status);

  std::printf("rank %d of %d:", rank, (*group)->world_size());
  for (int i = 0; i < 4; ++i) std::printf("  %g -> %.4f", x[i], y[i]);
  std::printf("\n");
  norm->reset();  // before its group
  return (*group)->Leave().ok() ? 0 : 1;
}
