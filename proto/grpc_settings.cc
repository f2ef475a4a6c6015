#include "proto/grpc_settings.h"

#include <grpc/grpc.h>

#include <cstdlib>

#include "absl/synchronization/mutex.h"

namespace syncnorm {
namespace {

// A message that lies in one read slice is read in one go, and parsed in place: 256 KiB holds a
// contribution of 2 x 8,192 channels in f64.
constexpr int kReadChunk = 256 << 10;
constexpr int kMaxReadChunk = 4 << 20;
// A message that fits one frame is announced once; the largest that HTTP/2 allows is 16 MiB - 1.
constexpr int kMaxFrame = 1 << 20;

constexpr std::pair<const char*, int> kArguments[] = {
    {GRPC_ARG_TCP_READ_CHUNK_SIZE, kReadChunk},
    {GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, kReadChunk},
    {GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kMaxReadChunk},
    {GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kMaxFrame},
    // Bandwidth probes are pings that a stream of small rounds has no use for.
    {GRPC_ARG_HTTP2_BDP_PROBE, 0},
    // Nothing on the path of a message that is not needed.
    {GRPC_ARG_ENABLE_CHANNELZ, 0},
    {GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0},
    {GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0},
    // A silent peer is asked also while no round is under way; without these two gRPC stops asking
    // after two pings.
    {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
    {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
};

}  // namespace

void PrepareGrpcProcess() {
  static const bool done = [] {
    // With this experiment on, as it is by default in this version, read slices shrink to 8 KiB,
    // one message of 2 KiB in four straddles two, and each of those costs a window update.
    setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", /*overwrite=*/0);
    // Distributions build Abseil with it on; it takes 18 % of the server's instructions.
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
    return true;
  }();
  static_cast<void>(done);
}

absl::Span<const std::pair<const char*, int>> MessageArguments() { return kArguments; }

}  // namespace syncnorm
