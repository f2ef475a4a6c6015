#include "server/ctl_call.h"

#include <grpcpp/generic/generic_stub.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/ctl_text.h"

namespace syncnorm::server {

absl::StatusOr<CtlCalls> CtlCalls::Make(const CtlFlags& flags) {
  CtlOptions options = flags.connection();
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = MakeCtlChannel(options);
  if (!channel.ok()) return channel.status();
  return CtlCalls(flags, std::move(options), *std::move(channel));
}

CtlCalls::CtlCalls(const CtlFlags& flags, CtlOptions options,
                   std::shared_ptr<grpc::Channel> channel)
    : timeout_(flags.timeout),
      options_(std::move(options)),
      channel_(std::move(channel)),
      stub_(v1::Admin::NewStub(channel_)) {}

absl::Status CtlCalls::Prepare(bool with_token, grpc::ClientContext* context) const {
  context->set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                   gpr_time_from_micros(absl::ToInt64Microseconds(timeout_), GPR_TIMESPAN)));
  return with_token ? Present(options_, context) : absl::OkStatus();
}

absl::Status CtlCalls::Error(const grpc::Status& status) const {
  std::string why = Plain(status.error_message());
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    why = absl::StrCat("no answer within ", absl::FormatDuration(timeout_));
  } else if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    // "failed to connect to all addresses; last error: UNKNOWN: ipv4:...: Connection refused"
    static const char kLastError[] = "last error: ";
    if (const size_t at = why.find(kLastError); at != std::string::npos) {
      const size_t colon = why.find(": ", at + sizeof(kLastError) - 1);  // after the code
      if (colon != std::string::npos) why.erase(0, colon + 2);
    }
    // gRPC does not say that a handshake failed, and for want of what.
    absl::StrAppend(&why, options_.tls.authorities.empty()
                              ? " (asked in plaintext; with TLS: --tls_dir)"
                              : " (asked with TLS)");
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat(options_.address, ": ", why));
}

template <typename Request, typename Reply>
absl::StatusOr<Reply> CtlCalls::Call(grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*,
                                                                             const Request&,
                                                                             Reply*),
                                     const Request& request) {
  grpc::ClientContext context;
  if (absl::Status prepared = Prepare(/*with_token=*/true, &context); !prepared.ok()) {
    return prepared;
  }
  Reply reply;
  const grpc::Status status = (stub_.get()->*method)(&context, request, &reply);
  if (!status.ok()) return Error(status);
  return reply;
}

absl::StatusOr<v1::VitalsReply> CtlCalls::Vitals(const std::string& group) {
  v1::VitalsRequest request;
  request.set_group(group);
  return Call(&v1::Admin::Stub::Vitals, request);
}

absl::StatusOr<v1::ReportReply> CtlCalls::Report(const std::string& group, uint32_t rounds) {
  v1::ReportRequest request;
  request.set_group(group);
  request.set_rounds(rounds);
  return Call(&v1::Admin::Stub::Report, request);
}

absl::StatusOr<v1::StatusReply> CtlCalls::Status() {
  return Call(&v1::Admin::Stub::Status, v1::StatusRequest());
}

absl::Status CtlCalls::Drain() {
  return Call(&v1::Admin::Stub::Drain, v1::DrainRequest()).status();
}

absl::StatusOr<health::ServingStatus> CtlCalls::Health(const std::string& service) {
  grpc::ClientContext context;
  // A probe has no token.
  if (absl::Status prepared = Prepare(/*with_token=*/false, &context); !prepared.ok()) {
    return prepared;
  }
  const grpc::Slice slice(health::EncodeRequest(service));
  grpc::ByteBuffer request(&slice, 1);
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel_);
  const auto call = stub.PrepareUnaryCall(&context, health::kCheckMethod, request, &queue);
  call->StartCall();
  grpc::ByteBuffer reply;
  grpc::Status status;
  call->Finish(&reply, &status, /*tag=*/&reply);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return Error(status);
  grpc::Slice answer;
  if (reply.Valid() && !reply.DumpToSingleSlice(&answer).ok()) answer = grpc::Slice();
  const std::optional<health::ServingStatus> serving = health::DecodeResponse(
      absl::string_view(reinterpret_cast<const char*>(answer.begin()), answer.size()));
  if (!serving) {
    return absl::InternalError(absl::StrCat(options_.address, ": not a HealthCheckResponse"));
  }
  return *serving;
}

}  // namespace syncnorm::server
