#include "server/channel.h"

#include <grpcpp/impl/server_builder_option.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "proto/grpc_settings.h"

namespace syncnorm::server {
namespace {

// A peer that vanished without a word is noticed after 10 + 20 s.  Shorter would take a worker that
// computes for long without polling for a dead one.
constexpr int kKeepaliveMs = 10'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
// Workers may ping that often.
constexpr int kMinPingMs = 5'000;
// No metadata is used; gRPC's own headers are some 200 bytes.
constexpr int kMetadataBytes = 8 << 10;

// gRPC's times are ints, and at least one millisecond.
int Milliseconds(absl::Duration time) {
  return static_cast<int>(
      std::clamp<int64_t>(absl::ToInt64Milliseconds(time), 1, std::numeric_limits<int>::max()));
}

class WithoutReflection final : public grpc::ServerBuilderOption {
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins,
                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
  }
};

}  // namespace

void LeaveOutReflection(grpc::ServerBuilder* builder) {
  builder->SetOption(std::make_unique<WithoutReflection>());
}

void Configure(const Settings& settings, grpc::ServerBuilder* builder) {
  const Limits& limits = settings.limits;
  // Not GRPC_ARG_MINIMAL_STACK: it would save 2 % of the instructions, and leaves out the filter
  // that holds the limit on a message's size.
  builder->SetMaxReceiveMessageSize(static_cast<int>(MaxMessageBytes(limits)));
  builder->SetMaxSendMessageSize(-1);

  for (const auto& [name, value] : MessageArguments()) builder->AddChannelArgument(name, value);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingMs);

  // A second coordinator on the port is an error, not half of the connections.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMetadataBytes);
  // A connection that sends nothing, or that opens no stream, is idle or hostile.
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                              Milliseconds(settings.timeouts.handshake));
  builder->AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                              Milliseconds(settings.timeouts.idle));
  // More than that could not join anyway; the core refuses them by name.
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                              static_cast<int>(limits.streams) + 1);
}

}  // namespace syncnorm::server
