// Two processes, no server: rank 0 carries the coordinator.  Each normalises its
// half of a batch and checks it against the whole.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <syncnorm/batch_norm.h>
#include <syncnorm/embedded.h>
#include <syncnorm/group.h>
#include <syncnorm/tensor.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace {

// A port that is free now.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

int Fail(int rank, const std::string& what) {
  std::fprintf(stderr, "rank %d: %s\n", rank, what.c_str());
  return 1;
}

int Work(int rank, const std::string& address) {
  syncnorm::GroupOptions options;
  options.address = address;
  options.rank = rank;
  options.world_size = 2;
  options.connect_timeout = absl::Seconds(30);
  options.coordinator_factory = syncnorm::StartEmbeddedCoordinator;
  auto group = syncnorm::Group::Connect(options);
  if (!group.ok()) return Fail(rank, group.status().ToString());
  auto norm = syncnorm::SyncBatchNorm::Create("bn", {.channels = 2}, group->get());
  if (!norm.ok()) return Fail(rank, norm.status().ToString());

  // (N=1, C=2) a worker; channel 0 of the whole batch is {0, 2}, channel 1 {4, 8}.
  const std::vector<float> x = rank == 0 ? std::vector<float>{0, 4} : std::vector<float>{2, 8};
  std::vector<float> y(2);
  const absl::Status status =
      (*norm)->Forward(syncnorm::Contiguous(x.data(), syncnorm::DType::kF32, {1, 2}), nullptr,
                       syncnorm::Contiguous(y.data(), syncnorm::DType::kF32, {1, 2}), nullptr);
  if (!status.ok()) return Fail(rank, status.ToString());
  for (const float value : y) {
    if (std::fabs(value - (rank == 0 ? -1 : 1)) > 1e-4) {
      return Fail(rank, "normalised to " + std::to_string(value));
    }
  }
  std::printf("rank %d of %d: %g %g\n", rank, (*group)->world_size(), y[0], y[1]);
  const absl::Status left = (*group)->Leave();
  return left.ok() ? 0 : Fail(rank, left.ToString());
}

}  // namespace

int main() {
  const std::string address = "127.0.0.1:" + std::to_string(FreePort());
  const pid_t child = fork();  // before anything of gRPC exists
  const int result = Work(child == 0 ? 1 : 0, address);
  if (child == 0) return result;
  int status = 0;
  waitpid(child, &status, 0);
  return result != 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}
