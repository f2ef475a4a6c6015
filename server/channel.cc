#include "server/channel.h"

#include <cstdlib>

#include "absl/synchronization/mutex.h"

namespace syncnorm::server {
namespace {

// A message that lies in one read slice is read in one go, and parsed in place: 256 KiB holds a
// contribution of 2 x 8,192 channels in f64.
constexpr int kReadChunk = 256 << 10;
constexpr int kMaxReadChunk = 4 << 20;
// A message that fits one frame is announced once; the largest that HTTP/2 allows is 16 MiB - 1.
constexpr int kMaxFrame = 1 << 20;

// A peer that vanished without a word is noticed after 10 + 20 s.  Shorter would take a worker that
// computes for long without polling for a dead one.
constexpr int kKeepaliveMs = 10'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
// Workers may ping that often.
constexpr int kMinPingMs = 5'000;
// A connection that does not finish its HTTP/2 settings: idle or hostile.
constexpr int kHandshakeMs = 5'000;
// No metadata is used; gRPC's own headers are some 200 bytes.
constexpr int kMetadataBytes = 8 << 10;

}  // namespace

void PrepareProcess() {
  // With this experiment on, as it is by default in this version, read slices shrink to 8 KiB, one
  // message in four straddles two, and each of those costs a window update.
  setenv("GRPC_EXPERIMENTS", "-tcp_read_chunks", /*overwrite=*/0);
  // Distributions build Abseil with it on; it takes 18 % of the server's instructions.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

void Configure(const Limits& limits, grpc::ServerBuilder* builder) {
  // Not GRPC_ARG_MINIMAL_STACK: it would save 2 % of the instructions, and leaves out the filter
  // that holds the limit on a message's size.
  builder->SetMaxReceiveMessageSize(static_cast<int>(MaxMessageBytes(limits)));
  builder->SetMaxSendMessageSize(-1);

  builder->AddChannelArgument(GRPC_ARG_TCP_READ_CHUNK_SIZE, kReadChunk);
  builder->AddChannelArgument(GRPC_ARG_TCP_MIN_READ_CHUNK_SIZE, kReadChunk);
  builder->AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kMaxReadChunk);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kMaxFrame);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder->AddChannelArgument(GRPC_ARG_ENABLE_CHANNELZ, 0);
  builder->AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
  builder->AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);

  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingMs);

  // A second coordinator on the port is an error, not half of the connections.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytes);
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
  // More than that could not join anyway; the core refuses them by name.
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                              static_cast<int>(limits.streams) + 1);
}

}  // namespace syncnorm::server
