#include "client/grpc_transport.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/channel_arguments.h>

#include <atomic>
#include <optional>
#include <utility>

#include "absl/strings/string_view.h"
#include "kernels/check.h"
#include "proto/grpc_settings.h"

namespace syncnorm {
namespace {

constexpr char kMethod[] = "/syncnorm.v1.Coordinator/Synchronize";

grpc::ChannelArguments Arguments() {
  grpc::ChannelArguments a;
  for (const auto& [name, value] : MessageArguments()) a.SetInt(name, value);
  // Deadlines are the session's, retries the group's.
  a.SetInt(GRPC_ARG_MINIMAL_STACK, 1);
  a.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // The coordinator is trusted and bounds what it sends by what it takes (Limits).
  a.SetMaxReceiveMessageSize(-1);
  a.SetMaxSendMessageSize(-1);
  // A coordinator whose machine vanished is noticed within 15 s.  Costs 1.5 k of 45.7 k
  // instructions a round (C = 256), for re-arming a timer with every read.
  a.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  a.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  // A coordinator that comes back is found within a quarter of a second; gRPC's own
  // figures are 1 s growing to 120 s, and 20 s for one attempt.
  a.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  a.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 250);
  a.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);
  // A coordinator that comes back elsewhere (a pod with a new address under its old name) is found as
  // fast; gRPC asks for a name once in 30 s only.
  a.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 250);
  // http_proxy in a trainer's environment is meant for downloads.
  a.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Two Groups of one process must not queue behind each other.
  a.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return a;
}

// Both are CLOCK_MONOTONIC.
gpr_timespec ToGrpc(absl::Time time) {
  if (time == absl::InfiniteFuture()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  const timespec t = absl::ToTimespec(time);
  gpr_timespec out;
  out.tv_sec = t.tv_sec;
  out.tv_nsec = static_cast<int32_t>(t.tv_nsec);
  out.clock_type = GPR_CLOCK_MONOTONIC;
  return out;
}

// A slice that shares the bytes: no copy.
grpc::Slice ToSlice(Bytes bytes) {
  const std::string& text = *bytes;
  return grpc::Slice(
      const_cast<char*>(text.data()), text.size(),
      [](void* held) { delete static_cast<Bytes*>(held); }, new Bytes(std::move(bytes)));
}

class GrpcTransport final : public Transport {
 public:
  explicit GrpcTransport(const std::string& address)
      : channel_(
            grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), Arguments())),
        stub_(channel_) {}

  ~GrpcTransport() override {
    if (context_) context_->TryCancel();
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  void Open() override {
    stream_.reset();
    context_.emplace();
    // The call's headers travel with the first message.
    context_->set_initial_metadata_corked(true);
    status_ = absl::OkStatus();
    ended_ = false;
    stream_ = stub_.PrepareCall(&*context_, kMethod, &queue_);
    SYNCNORM_CHECK(stream_ != nullptr);
    stream_->StartCall(nullptr);
  }

  void Write(Bytes message, bool last) override {
    grpc::Slice slice = ToSlice(std::move(message));
    const grpc::ByteBuffer buffer(&slice, 1);
    writing_.store(true, std::memory_order_relaxed);  // the completion queue orders it
    if (last) {
      stream_->WriteLast(buffer, grpc::WriteOptions(), &written_);
    } else {
      stream_->Write(buffer, &written_);
    }
  }

  bool writing() const override { return writing_.load(std::memory_order_relaxed); }

  void Read() override { stream_->Read(&incoming_, &read_); }

  void Cancel() override { context_->TryCancel(); }

  Event Next(absl::Time deadline) override {
    const gpr_timespec until = ToGrpc(deadline);
    for (;;) {
      void* tag = nullptr;
      bool ok = false;
      if (queue_.AsyncNext(&tag, &ok, until) != grpc::CompletionQueue::GOT_EVENT) {
        return Event::kNothing;
      }
      if (tag == &written_) {
        writing_.store(false, std::memory_order_relaxed);
        if (!ended_) return Event::kWritten;
      }
      if (tag == &finished_) {
        status_ =
            absl::Status(static_cast<absl::StatusCode>(end_.error_code()), end_.error_message());
        ended_ = true;
      }
      if (ended_) {
        if (writing_.load(std::memory_order_relaxed)) continue;
        return Event::kClosed;
      }
      if (ok) {
        Flatten();
        return Event::kMessage;
      }
      stream_->Finish(&end_, &finished_);
    }
  }

  std::string_view message() const override {
    return {reinterpret_cast<const char*>(flat_.begin()), flat_.size()};
  }

  const absl::Status& status() const override { return status_; }

  void AwaitRetry(absl::Time deadline) override {
    const grpc_connectivity_state state = channel_->GetState(/*try_to_connect=*/true);
    channel_->WaitForStateChange(state, ToGrpc(deadline));
  }

 private:
  // Usually the message is one slice already.
  void Flatten() {
    if (incoming_.TrySingleSlice(&flat_).ok()) return;
    SYNCNORM_CHECK(incoming_.DumpToSingleSlice(&flat_).ok());
  }

  // Addresses that serve as tags.
  char written_ = 0, read_ = 0, finished_ = 0;
  std::atomic<bool> writing_{false};
  bool ended_ = false;

  const std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
  grpc::CompletionQueue queue_;
  std::optional<grpc::ClientContext> context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;  // before its context_ goes
  grpc::ByteBuffer incoming_;
  grpc::Slice flat_;
  grpc::Status end_;
  absl::Status status_;
};

}  // namespace

std::unique_ptr<Transport> NewGrpcTransport(const std::string& address) {
  PrepareGrpcProcess();
  return std::make_unique<GrpcTransport>(address);
}

}  // namespace syncnorm
