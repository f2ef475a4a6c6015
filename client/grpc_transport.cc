#include "client/grpc_transport.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "client/tls_diagnosis.h"
#include "kernels/check.h"
#include "proto/clock.h"
#include "proto/grpc_settings.h"
#include "proto/tls_files.h"

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
  // figures are 1 s growing to 120 s.  It takes less than 100 ms for 100 ms; after a connection
  // that was good, as when a member comes back within the grace, it waits for neither.
  a.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  a.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 250);
  // Despite its name the most that one attempt may take: TCP, TLS and the settings, four round
  // trips.  It matters only where packets vanish.  Measured there, from when they no longer do to
  // the connection: 0.1 to 0.9 s; with 1 s the same, since it is the kernel that sends the SYN
  // again after a second; with 250 ms 0.1 to 0.3 s, but then a network of 65 ms a round trip never
  // connects.
  a.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);
  // One that comes back elsewhere (a pod's new address under its old name) is found as fast; gRPC
  // asks for a name once in 30 s only.
  a.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, 250);
  // A look-up whose answer is lost ends after 120 s otherwise.  c-ares turns to the next name
  // server after 5 s: this is for two that are dead.
  a.SetInt(GRPC_ARG_DNS_ARES_QUERY_TIMEOUT_MS, 11'000);
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

// A channel that has not connected for so long is made anew: its name is looked up on a new socket.
// Where name servers are started again together with the coordinator, as some for containers are,
// they do not hear any more who asked on the old one, and gRPC goes on asking there.
constexpr absl::Duration kChannelLife = absl::Seconds(2);
// For finding out why there is no connection: a few round trips, and what a server takes to refuse.
constexpr absl::Duration kDiagnosis = absl::Seconds(1);

class GrpcTransport final : public Transport {
 public:
  GrpcTransport(const std::string& address, const ChannelSecurity& security)
      : address_(address), security_(security) {}

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
    if (heard_) alone_since_ = MonotonicClock().Now();
    context_.emplace();
    // The call's headers travel with the first message.
    context_->set_initial_metadata_corked(true);
    ended_ = false;
    heard_ = false;
    status_ = Prepare();
    if (!status_.ok()) {
      ended_ = true;
      return;
    }
    stream_ = stub_->PrepareCall(&*context_, kMethod, &queue_);
    SYNCNORM_CHECK(stream_ != nullptr);
    stream_->StartCall(nullptr);
  }

  void Write(Bytes message, bool last) override {
    if (stream_ == nullptr) {
      untold_end_ = true;
      return;
    }
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

  void Read() override {
    if (stream_ == nullptr) {
      untold_end_ = true;
      return;
    }
    stream_->Read(&incoming_, &read_);
  }

  void Cancel() override { context_->TryCancel(); }

  Event Next(absl::Time deadline) override {
    // A stream that could not be opened has ended for whoever wrote or reads.
    if (untold_end_.exchange(false, std::memory_order_relaxed)) return Event::kClosed;
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
        Explain(deadline);
      }
      if (ended_) {
        if (writing_.load(std::memory_order_relaxed)) continue;
        return Event::kClosed;
      }
      if (ok) {
        heard_ = true;
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
    if (channel_ == nullptr) {  // nothing comes of its own: the time has to pass
      Next(deadline);
      return;
    }
    const grpc_connectivity_state state = channel_->GetState(/*try_to_connect=*/true);
    channel_->WaitForStateChange(state, ToGrpc(deadline));
  }

 private:
  // The channel and the call's metadata, as the files are now.
  absl::Status Prepare() {
    if (absl::Status s = CheckSecurity(address_, security_); !s.ok()) return s;
    const absl::StatusOr<std::string> token = ReadToken(security_);
    if (!token.ok()) return token.status();
    if (!token->empty()) context_->AddMetadata("authorization", absl::StrCat("Bearer ", *token));
    TlsTexts texts;
    if (security_.uses_tls()) {
      absl::StatusOr<TlsTexts> read =
          ReadTls({security_.tls.cert_file, security_.tls.key_file, security_.tls.ca_file});
      if (!read.ok()) return absl::FailedPreconditionError(read.status().message());
      texts = *std::move(read);
    }
    const absl::Time now = MonotonicClock().Now();
    if (channel_ != nullptr && texts == texts_ && now - alone_since_ < kChannelLife) {
      return absl::OkStatus();
    }
    alone_since_ = now;
    texts_ = std::move(texts);
    stub_.reset();
    channel_ = NewChannel();
    stub_.emplace(channel_);
    return absl::OkStatus();
  }

  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments = Arguments();
    if (!security_.uses_tls()) {
      return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
    }
    if (!security_.tls.server_name.empty()) {
      arguments.SetSslTargetNameOverride(security_.tls.server_name);
    }
    return grpc::CreateCustomChannel(
        address_, grpc::SslCredentials({texts_.authorities, texts_.key, texts_.certificate}),
        arguments);
  }

  // A connection that did not come about: whether TLS is the reason.
  void Explain(absl::Time deadline) {
    ever_heard_ = ever_heard_ || heard_;
    // What a plaintext connection was once, it will be again.
    if (heard_ || (ever_heard_ && !security_.uses_tls())) return;
    // A name that is not found takes the resolver long to not find once more.
    if (!absl::IsUnavailable(status_) || absl::StrContains(status_.message(), "DNS")) return;
    const absl::Duration budget = std::min(kDiagnosis, deadline - MonotonicClock().Now());
    if (budget <= absl::ZeroDuration()) return;
    const absl::Status found = DiagnoseTls(address_, security_, WallClock().Now(), budget);
    if (absl::IsUnavailable(found)) {
      status_ = absl::UnavailableError(absl::StrCat(status_.message(), "; ", found.message()));
    } else if (!found.ok()) {
      status_ = found;
    }
  }

  // Usually the message is one slice already.
  void Flatten() {
    if (incoming_.TrySingleSlice(&flat_).ok()) return;
    SYNCNORM_CHECK(incoming_.DumpToSingleSlice(&flat_).ok());
  }

  // Addresses that serve as tags.
  char written_ = 0, read_ = 0, finished_ = 0;
  std::atomic<bool> writing_{false};
  std::atomic<bool> untold_end_{false};  // of a stream that could not be opened
  bool ended_ = false;
  // When the last channel was made, or its last good stream broke.
  absl::Time alone_since_ = absl::InfinitePast();
  bool heard_ = false;       // a message has come on this stream
  bool ever_heard_ = false;  // on an earlier one

  const std::string address_;
  const ChannelSecurity security_;
  TlsTexts texts_;                          // of the channel
  std::shared_ptr<grpc::Channel> channel_;  // null until the first Open
  std::optional<grpc::GenericStub> stub_;
  grpc::CompletionQueue queue_;
  std::optional<grpc::ClientContext> context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;  // before its context_ goes
  grpc::ByteBuffer incoming_;
  grpc::Slice flat_;
  grpc::Status end_;
  absl::Status status_;
};

}  // namespace

std::unique_ptr<Transport> NewGrpcTransport(const std::string& address,
                                            const ChannelSecurity& security) {
  PrepareGrpcProcess();
  return std::make_unique<GrpcTransport>(address, security);
}

}  // namespace syncnorm
